"""`python run.py demo`: one loop with the pocket model, made by a real ComfyUI server that nobody sees."""
