"""Which network is this, and is its file safe to load?"""

from stackelberg.models.autoencoder import AutoEncoder
from stackelberg.models.black_box import BlackBox, network
from stackelberg.models.catalogue import CLOUD_NAMES, IMAGE_NAMES, NAMES, TEXT_NAMES, Spec, build, spec_of
from stackelberg.models.checks import check_output
from stackelberg.models.embedding import embedded
from stackelberg.models.estimator import of_estimator
from stackelberg.models.logits_of import LogitsOf
from stackelberg.models.normalized import Normalized
from stackelberg.models.onnx_network import Onnx, load_onnx
from stackelberg.models.stored import load
from stackelberg.models.unet import UNet
from stackelberg.models.vae import VAE
from stackelberg.models.vae_file import load_vae, save_vae
from stackelberg.models.weights import fingerprint, load_weights, save_weights

__all__ = [
    "CLOUD_NAMES",
    "IMAGE_NAMES",
    "NAMES",
    "TEXT_NAMES",
    "VAE",
    "AutoEncoder",
    "BlackBox",
    "LogitsOf",
    "Normalized",
    "Onnx",
    "Spec",
    "UNet",
    "build",
    "check_output",
    "embedded",
    "fingerprint",
    "load",
    "load_onnx",
    "load_vae",
    "load_weights",
    "network",
    "of_estimator",
    "save_vae",
    "save_weights",
    "spec_of",
]
