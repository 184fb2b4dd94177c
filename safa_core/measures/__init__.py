"""What is measured of a canvas: spectra (Fig. 2(b)), seams, the linear map of Eq. 5."""
