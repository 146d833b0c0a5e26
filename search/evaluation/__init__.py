"""How good a library's indexes, vectors and weights are: measured on its own photos, in bounded memory."""
