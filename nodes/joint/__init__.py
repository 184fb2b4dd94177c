"""Joint diffusion over a canvas: the plan, the joins, the reference, and the MODEL patch."""
