"""Speech to features: hidden states of HuBERT, wav2vec 2.0 and WavLM."""
