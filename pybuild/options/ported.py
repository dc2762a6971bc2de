"""Options of docker, podman and buildah that pybuild does not have: the usage error says what to use in their place.

A switch asks for something that these tools do only if it is given, and `=false` for what pybuild does in any case. Switches whose
`=true` is what pybuild does are accepted; `--no-NAME` stands for their `=false` (pybuild/options/arguments.py). docs/user/docker-build.md
and docs/user/buildah.md list all of them. Sources: docker buildx build, podman-build(1) and buildah-build(1).
"""

from __future__ import annotations

import click

from pybuild.options.arguments import accepted_option, refused_option

_MOUNT = "use RUN --mount=type=bind with --build-context, or RUN --mount=type=cache"
_NAMESPACE = "each RUN has namespaces of its own; --network is the one that can be chosen"
_IDS = "the ids of RUN steps are those of /etc/subuid and /etc/subgid; for root all ids are the machine's"
_RESOLVER = "RUN steps use the name servers of this machine; --add-host gives a name an address"
_SBOM = "pybuild makes no SBOM: let a scanner read what -o type=local or type=oci writes"
_NO_STAGE_IMAGES = "stages do not become images; --target with --tag makes one of a stage"
_BEFORE = "it stands before the command: pybuild {} build"
_NO_POLICY = "pybuild has no policies for sources; ADD --checksum and digests in FROM fix what is fetched"

_ACCEPTED = ("--disable-content-trust", "--inherit-labels", "--rewrite-timestamp", "--skip-unused-stages")
_SWITCHES = {
    "--no-disable-content-trust": "pybuild does not check signatures of images; a digest in FROM fixes what is fetched",
    "--no-inherit-labels": "an image keeps the labels of its base; LABEL NAME= makes one empty",
    "--no-skip-unused-stages": "stages that the target does not need are never built; --target builds one of them",
    "--squash-all": "an image keeps its layers; type=tar writes the root filesystem as one tar, for pybuild import",
    "--pull-always": "write --pull=always",
    "--pull-never": "write --pull=never",
    "--all-platforms": "name the platforms with --platform",
    "--compat-volumes": "what a RUN writes below a VOLUME stays, as with docker",
    "--created-annotation": "write --annotation org.opencontainers.image.created=TIME",
    "--debug": _BEFORE.format("--debug"),
    "--detach": "pybuild builds in its own process: let the shell start it in the background",
    "--disable-compression": "the store keeps layers compressed; compression=uncompressed of -o writes them as they are",
    "-D": "write pybuild --debug build for messages, or compression=uncompressed of -o",
    "--http-proxy": "write --build-arg http_proxy, which hands the variable on to RUN steps",
    "--identity-label": "pybuild adds no label of its own; --label adds one",
    "--inherit-annotations": "an image has the annotations of --annotation only, as with docker",
    "--logsplit": "pybuild logs shows the output of each step",
    "--no-hostname": "RUN steps have an /etc/hostname of the image and a host name of their own, and no layer keeps that",
    "--no-hosts": "RUN steps have an /etc/hosts of their own, which no layer keeps",
    "--omit-history": "the history belongs to the image; pybuild import of -o type=tar makes one without it",
    "--save-stages": _NO_STAGE_IMAGES,
    "--stage-labels": _NO_STAGE_IMAGES,
    "--stdin": "RUN steps have an empty standard input; --secret and --build-arg give them what they need",
}
_VALUES = {
    "--arch": "write --platform OS/ARCH",
    "--authfile": "set REGISTRY_AUTH_FILE",
    "--build-arg-file": "write --build-arg for each line",
    "--builder": "pybuild has no builders: it builds in its own process",
    "-c": "write --cpus N",
    "--cache-ttl": "a key says whether a record is right, however old it is; --no-cache uses none",
    "--cap-add": "the capabilities of a RUN are docker's; --allow security.insecure permits RUN --security=insecure",
    "--cap-drop": "the capabilities of a RUN are docker's; setpriv in the RUN drops some",
    "--cert-dir": "name the certificates with ca-files in the configuration file",
    "--cgroup-parent": "the cgroups of steps are below that of pybuild; start pybuild in the cgroup that you want",
    "--cgroupns": _NAMESPACE,
    "--cpp-flag": "pybuild runs no preprocessor: pipe what cpp -E writes into pybuild -f -",
    "--cpu-period": "write --cpus N",
    "--cpu-quota": "write --cpus N",
    "--cpu-shares": "write --cpus N",
    "--cpuset-cpus": "start pybuild with taskset",
    "--cpuset-mems": "start pybuild with numactl",
    "--creds": "log in with pybuild login, docker login or podman login",
    "--cw": "pybuild makes no images for confidential workloads",
    "--decryption-key": "pybuild reads no encrypted images",
    "--device": "a RUN has docker's devices and no others",
    "--dns": _RESOLVER,
    "--dns-option": _RESOLVER,
    "--dns-search": _RESOLVER,
    "--env": "write ENV into the recipe, or ARG and --build-arg",
    "--from": "write --build-context NAME=docker-image://OTHER, which replaces FROM NAME",
    "--group-add": "a RUN has the groups of its USER; write RUN with newgrp or setpriv",
    "--hooks-dir": "pybuild runs steps itself, without an OCI runtime and its hooks",
    "--ignorefile": "name the ignore file RECIPE.dockerignore, or .dockerignore",
    "--iidfile-raw": "--iidfile writes the digest with its algorithm; cut -d: -f2 removes that",
    "--invoke": "--on-fail shell opens a shell in a step that failed",
    "--ipc": _NAMESPACE,
    "--layer-label": _NO_STAGE_IMAGES,
    "--logfile": "write 2> FILE; pybuild logs shows the output of the steps afterwards",
    "--manifest": "write --platform A,B with --tag; pybuild index add puts an image into an index that exists",
    "--memory-swap": "--memory limits memory and swap together",
    "--mount": "write RUN --mount into the recipe",
    "--net": "write --network",
    "--os": "write --platform OS/ARCH",
    "--os-feature": "an image has the features of its base",
    "--os-version": "an image has the version of its base; --platform 'windows(VERSION)/amd64' chooses one",
    "--pid": _NAMESPACE,
    "--policy": _NO_POLICY,
    "--print": "write --call",
    "--retry": "pybuild tries again by itself; the limit retries says how often",
    "--retry-delay": "pybuild waits as long as the server asks for, else longer each time",
    "--root": _BEFORE.format("--root DIR"),
    "--runtime": "pybuild runs steps itself, without an OCI runtime",
    "--runtime-flag": "pybuild runs steps itself, without an OCI runtime",
    "--sbom-image-output": _SBOM,
    "--sbom-image-purl-output": _SBOM,
    "--sbom-merge-strategy": _SBOM,
    "--sbom-output": _SBOM,
    "--sbom-purl-output": _SBOM,
    "--sbom-scanner-command": _SBOM,
    "--sbom-scanner-image": _SBOM,
    "--security-opt": "the sandbox of a RUN cannot be changed; --allow security.insecure permits RUN --security=insecure",
    "--server-config": "pybuild builds in its own process, without a server",
    "--sign-by": "pybuild does not sign: sign the digest of what it has pushed",
    "--signature-policy": "pybuild does not check signatures of images; a digest in FROM fixes what is fetched",
    "--source-policy-file": _NO_POLICY,
    "--transient-run-mounts": _MOUNT,
    "--unsetannotation": "an image has the annotations of --annotation only, as with docker",
    "--unsetenv": "an image keeps the variables of its base; ENV NAME= makes one empty",
    "--unsetlabel": "an image keeps the labels of its base; LABEL NAME= makes one empty",
    "--userns": _NAMESPACE,
    "--userns-gid-map": _IDS,
    "--userns-gid-map-group": _IDS,
    "--userns-uid-map": _IDS,
    "--userns-uid-map-user": _IDS,
    "--uts": _NAMESPACE,
    "--variant": "write --platform OS/ARCH/VARIANT",
    "-v": _MOUNT,
    "--volume": _MOUNT,
}


def ported_options() -> tuple[click.Option, ...]:
    """The options, which --help does not show."""
    return (
        *map(accepted_option, _ACCEPTED),
        *(refused_option(name, reason, is_flag=True) for name, reason in _SWITCHES.items()),
        *(refused_option(name, reason) for name, reason in _VALUES.items()),
        click.Option(["--attest"], multiple=True, hidden=True, expose_value=False, callback=_no_attestation),
    )


def _no_attestation(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> None:
    for value in values:
        if "disabled=true" not in value.split(","):
            raise click.UsageError(f"--attest {value}: pybuild makes no attestations; only disabled=true is accepted")
