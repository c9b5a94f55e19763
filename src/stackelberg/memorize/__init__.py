"""What is the most robust network there can be for this data?"""

from stackelberg.memorize.compact import Compact, compact

__all__ = ["Compact", "compact"]
