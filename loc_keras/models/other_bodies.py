"""From the name of a body to the body, for all that are not our own ResNets."""

from loc_keras.models import applications, hub_bodies
from loc_keras.models.body import Body


def refuse_unknown_body(name: str) -> None:
    """Refuses a name that no body has, without building anything.

    Raises:
        ModelError: With the names most like it.
    """
    if name.startswith(applications.PREFIX):
        applications.find_application(name)
    if name.startswith(hub_bodies.PREFIX):
        hub_bodies.find_preset(name)


def build_body(name: str, image_shape: tuple[int, int, int], weights: str = "none") -> Body | None:
    """Builds the body that a name stands for.

    Args:
        name: `applications/<name>`, `hub/<preset>`, or the name of one of our own ResNets.
        image_shape: (height, width, channels) of the images.
        weights: "none", "imagenet" or the path of a file, see
            `applications.build_application` and `hub_bodies.build_hub_body`.

    Returns:
        The body, or None for our own ResNets, which are flat parts of the localizer.

    Raises:
        ModelError: If the name, the images or the weights do not fit.
    """
    if name.startswith(applications.PREFIX):
        return applications.build_application(name, image_shape, weights)
    if name.startswith(hub_bodies.PREFIX):
        return hub_bodies.build_hub_body(name, image_shape, weights)
    return None
