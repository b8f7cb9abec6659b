"""Instance masks of camera images by a BlendMask bundle, in ROS 2."""
