"""The BlendMask network."""
