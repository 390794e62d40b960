"""How the parts of a scene move when what they are made of moves: the tangents of beam, crystal and detector."""
