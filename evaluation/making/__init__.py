"""Long canvases: the models, the methods that are compared, and DDIM's steps on stacked views."""
