"""Small pictures of photos, WebP: 64 pixels for all, in few large files; larger ones as they are asked for."""
