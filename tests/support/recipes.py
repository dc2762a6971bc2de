"""Plans recipes without a store: base images are made up and nothing runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pybuild.builder.errors import PlanError
from pybuild.builder.options import BuildOptions
from pybuild.builder.plan.planner import plan
from pybuild.builder.plan.resolve import resolve
from pybuild.parser import ParseError, parse
from pybuild.store.errors import NotFound
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_config import ExecConfig, History, ImageConfig
from pybuild.store.formats.oci_manifest import Descriptor, Manifest
from pybuild.store.formats.platform import Platform
from pybuild.store.objects.images import StoredImage

if TYPE_CHECKING:
    from pybuild.builder.plan.graph import Node, Plan, Step
    from pybuild.builder.plan.resolve import Resolved
    from pybuild.store.formats.reference import Reference

PLATFORM = Platform("linux", "amd64")
LAYER = Digest.of(b"the layer of a made-up base")


def image(config: ExecConfig | None = None, *, layers: int = 1, history: tuple[History, ...] | None = None) -> StoredImage:
    """A made-up base image."""
    diff_ids = tuple(Digest.of(b"layer %d" % number) for number in range(layers))
    lines = tuple(History(created_by=f"base {number}") for number in range(layers)) if history is None else history
    described = ImageConfig("amd64", "linux", "", None, "", config or ExecConfig(), diff_ids, lines)
    manifest = Manifest(
        Descriptor(MediaType.OCI_CONFIG, LAYER, 1),
        tuple(Descriptor(MediaType.OCI_LAYER, digest, 1) for digest in diff_ids),
    )
    return StoredImage(LAYER, manifest, described, 7 if layers else None, LAYER)


@dataclass
class Images:
    """The source of made-up images; `asked` lists the names that were looked up."""

    known: dict[str, StoredImage] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def image(self, reference: Reference, platform: Platform | None = None) -> StoredImage:
        """The image `name`, or `platform name` if a platform is given."""
        name = f"{platform} {reference.familiar}" if platform is not None else reference.familiar
        self.asked.append(name)
        try:
            return self.known[name]
        except KeyError:
            raise NotFound("not in the store", hint="bring it in") from None


def options(**fields: object) -> BuildOptions:
    """Options for one fixed platform, on any machine."""
    return BuildOptions(**{"platform": PLATFORM, "build_platform": PLATFORM, **fields})  # type: ignore[arg-type]


def resolved(text: str, images: Images | None = None, **fields: object) -> Resolved:
    """Resolve a recipe; the default is one image named `base`."""
    return resolve(parse(text), options(**fields), images or Images({"base": image()}))


def planned(text: str, images: Images | None = None, **fields: object) -> Plan:
    """Plan a recipe."""
    return plan(resolved(text, images, **fields), options(**fields))


def steps(text: str, images: Images | None = None, **fields: object) -> list[Step]:
    """The steps of the target's chain, lowest first."""
    result = planned(text, images, **fields)
    return [node.step for node in chain(result, result.image.node)]


def chain(result: Plan, last: int | None) -> list[Node]:
    """A node and its ancestors, lowest first."""
    found: list[Node] = []
    while last is not None:
        found.append(result.nodes[last])
        last = result.nodes[last].parent
    return found[::-1]


def config(text: str, base: ExecConfig | None = None, **fields: object) -> ExecConfig:
    """The config of the planned image, on a base with the config `base`."""
    return planned(text, Images({"base": image(base)}), **fields).image.state.config


def history(text: str, images: Images | None = None, **fields: object) -> list[str]:
    """The history lines that the recipe adds; a line without a layer starts with a tilde."""
    lines = planned(text, images, **fields).image.history
    return [("~" if line.node is None else "") + line.text for line in lines]


def refusal(text: str, images: Images | None = None, **fields: object) -> str:
    """The error of a recipe that cannot be planned, as `line:column message`."""
    try:
        planned(text, images, **fields)
    except (ParseError, PlanError) as error:
        place = f"{error.span.line}:{error.span.column} " if error.span is not None else ""
        return f"{place}{error}"
    raise AssertionError("the recipe was planned")
