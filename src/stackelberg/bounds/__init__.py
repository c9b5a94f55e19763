"""What will it do on data it has not seen?"""

from stackelberg.bounds.bound import Bound

__all__ = ["Bound"]
