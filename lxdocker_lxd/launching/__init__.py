"""Instances made from our images: launched with what the image asks for, listed, their logs read."""
