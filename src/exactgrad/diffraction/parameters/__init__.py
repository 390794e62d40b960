"""The parameters of an image: their names and units, where they stand in the settings, how they move the scene."""
