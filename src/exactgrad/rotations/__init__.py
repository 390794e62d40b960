"""SO(3): rotation vectors, quaternions, Euler angles by name, and their exact derivatives."""
