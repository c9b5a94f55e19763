"""What can be proved about a network?"""

from stackelberg.certify.certificate import Certificate, Unsupported
from stackelberg.certify.interval import interval, interval_gaps

__all__ = ["Certificate", "Unsupported", "interval", "interval_gaps"]
