"""Start the node for one camera.

ros2 launch blendmask_ros2 masks.launch.py bundle:=/PATH/kitchen.bmz image:=/camera/image_raw
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and the node."""
    share = FindPackageShare("blendmask_ros2")
    arguments = [
        DeclareLaunchArgument("bundle", description="path of the .bmz file"),
        DeclareLaunchArgument("image", default_value="/image", description="topic of the camera"),
        DeclareLaunchArgument("compressed", default_value="false", description="whether it is a CompressedImage"),
        DeclareLaunchArgument("track", default_value="false", description="identities from frame to frame"),
        DeclareLaunchArgument("name", default_value="blendmask", description="name of the node"),
        DeclareLaunchArgument(
            "parameters",
            default_value=PathJoinSubstitution([share, "config", "masks.yaml"]),
            description="file with further parameters",
        ),
    ]
    node = Node(
        package="blendmask_ros2",
        executable="masks",
        name=LaunchConfiguration("name"),
        remappings=[("image", LaunchConfiguration("image"))],
        parameters=[
            LaunchConfiguration("parameters"),
            {
                "bundle": ParameterValue(LaunchConfiguration("bundle"), value_type=str),
                "compressed": ParameterValue(LaunchConfiguration("compressed"), value_type=bool),
                "track": ParameterValue(LaunchConfiguration("track"), value_type=bool),
            },
        ],
        output="screen",
    )
    return LaunchDescription([*arguments, node])
