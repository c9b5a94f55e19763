"""A VAE in a file: a safetensors file with the record that builds it again, nothing that can run."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import save as write_tensors

from stackelberg.errors import StackelbergError
from stackelberg.files import from_json, replacing
from stackelberg.models.vae import VAE
from stackelberg.models.weights import put, read_weights

_Count = Annotated[int, Field(ge=1)]


class VAESpec(BaseModel):
    """All that is needed to build a VAE again (see `VAE`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["vae"] = "vae"
    shape: tuple[_Count, _Count, _Count]
    latent: _Count
    width: _Count
    critic: bool

    def build(self) -> VAE:
        """The network with fresh weights from torch's global generator."""
        return VAE(self.shape, self.latent, self.width, self.critic)


def save_vae(vae: VAE, path: str | os.PathLike[str]) -> None:
    """Write a VAE, whole or not at all."""
    channels, height, breadth = vae.shape
    spec = VAESpec(shape=(channels, height, breadth), latent=vae.latent, width=vae.width, critic=vae.critic is not None)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in vae.state_dict().items()}
    with replacing(path) as scratch:
        scratch.write_bytes(write_tensors(tensors, {"format": "pt", "vae": spec.model_dump_json()}))


def load_vae(path: str | os.PathLike[str]) -> VAE:
    """Read a VAE that `save_vae` wrote, in evaluation mode on the CPU.

    Raises:
        StackelbergError: the file is missing, truncated, holds no VAE, or its weights do not fit or are not finite.
    """
    path = Path(path)
    tensors = read_weights(path)
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    record = from_json(header).get("__metadata__", {}).get("vae")
    if record is None:
        raise StackelbergError(
            f"{path} holds no VAE (its header has no record of one); pass a file that save_vae wrote"
        )
    try:
        vae = VAESpec.model_validate_json(record).build()
    except ValidationError as error:
        raise StackelbergError(f"{path}: the record of its VAE is damaged ({error.errors()[0]['msg']})") from error
    put(tensors, vae, str(path))
    return vae.eval()
