"""Sound and rings: mel spectrograms, vocoders in pieces, circular convolutions, WAV loop points."""
