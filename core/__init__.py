"""What every program of wastestream agrees on; imports none of the others."""
