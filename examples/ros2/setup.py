"""The ROS 2 package: node, launch file and parameters."""

from setuptools import setup

NAME = "blendmask_ros2"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", ["launch/masks.launch.py"]),
        (f"share/{NAME}/config", ["config/masks.yaml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="the authors of blendmask-edge",
    description="Instance masks of camera images by a BlendMask bundle",
    license="Apache-2.0",
    entry_points={"console_scripts": [f"masks = {NAME}.node:main"]},
)
