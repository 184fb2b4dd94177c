"""What a join did to a canvas: spectra, recorded steps, seams."""
