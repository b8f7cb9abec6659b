"""How much each layer costs in accuracy when it is quantized, and which ones are better left in float."""
