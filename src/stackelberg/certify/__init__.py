"""What can be proved about a network?"""

from stackelberg.certify.branch import Decision, complete, decide
from stackelberg.certify.certificate import Certificate, Unsupported
from stackelberg.certify.duality import dual
from stackelberg.certify.enumeration import Enumeration, enumerate_letters
from stackelberg.certify.graph import Graph, graph_of
from stackelberg.certify.interval import interval, interval_gaps
from stackelberg.certify.linear import alpha_crown, bounds, crown, linear_gaps
from stackelberg.certify.lipschitz import lipschitz
from stackelberg.certify.milp import exact
from stackelberg.certify.smoothing import SmoothedCertificate, smooth
from stackelberg.certify.steepness import check_steepness, steepness
from stackelberg.certify.vnnlib import Property, read_property
from stackelberg.certify.zonotope import zonotope

__all__ = [
    "Certificate",
    "Decision",
    "Enumeration",
    "Graph",
    "Property",
    "SmoothedCertificate",
    "Unsupported",
    "alpha_crown",
    "bounds",
    "check_steepness",
    "complete",
    "crown",
    "decide",
    "dual",
    "enumerate_letters",
    "exact",
    "graph_of",
    "interval",
    "interval_gaps",
    "linear_gaps",
    "lipschitz",
    "read_property",
    "smooth",
    "steepness",
    "zonotope",
]
