"""One file a modality: pixels → vectors."""
