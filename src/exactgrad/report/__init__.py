"""What the house shows: the console, the figures' common style, and the run report; it knows no physics."""
