"""Stylised copies of image sets: which style a picture gets, how it is made, and the folder that it is written to."""
