"""Records, formats and stores that all programs of wastestream share; imports none of the others."""
