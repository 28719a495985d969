"""Image formats: structure of the files, and the bytes of them that a decoder needs."""
