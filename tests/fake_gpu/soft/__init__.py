"""What the software GPU is made of; nothing here holds state of its own, gpu.py does."""
