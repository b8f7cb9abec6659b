"""Verify a bundle on a device: `run.verify_device` measures every route, and `report` holds what was measured."""
