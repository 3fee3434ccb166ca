"""The settings and environment variables that git theta reads, as the documentation lists them."""

from __future__ import annotations

from git_theta_ext.records import dataclass

MAX_CHAIN_DEPTH = 12


@dataclass(frozen=True)
class Setting:
    """A setting as the documentation lists it.

    Attributes:
        key: With ``<name>`` for a remote's name.
        kind: What the value is.
        default: As a user would write it; empty if there is none.
        summary: What it is for, in Markdown.
    """

    key: str
    kind: str
    default: str
    summary: str


THREADS = Setting("theta.threads", "integer", "0", "Number of threads for encoding and decoding. 0 uses one per core.")
CHAIN_DEPTH = Setting(
    "theta.chainDepth",
    "integer",
    "6",
    f"Longest chain of deltas that recoding makes, at most {MAX_CHAIN_DEPTH}. Longer chains make the store smaller and"
    " checkouts slower.",
)
GC_AUTO = Setting(
    "theta.gcAuto",
    "size",
    "256m",
    "Number of bytes added since the last `git theta gc` after which it starts in the background. 0 disables it.",
)
GC_GRACE = Setting("theta.gcGrace", "days", "14", "Number of days for which `git theta gc` keeps unreachable tensors.")
ALLOW_INCOMPLETE = Setting(
    "theta.allowIncomplete",
    "boolean",
    "false",
    "Whether a checkout succeeds that leaves a manifest in the place of a checkpoint, because no remote has its"
    " parameters.",
)
STRICT = Setting(
    "theta.strict",
    "boolean",
    "false",
    "Whether `git add` refuses a file that does not follow its format, such as a truncated one. Otherwise it is stored"
    " as an opaque file, with a warning.",
)
FETCH_INCLUDE = Setting(
    "theta.fetch.include",
    "glob",
    "",
    "Checkpoints whose parameters a checkout fetches; can be set several times. `*` also matches `/`. By default, all.",
)
FETCH_EXCLUDE = Setting(
    "theta.fetch.exclude",
    "glob",
    "",
    "Checkpoints whose parameters a checkout does not fetch; can be set several times. Their manifests stay in the work"
    " tree until `git theta checkout PATH`.",
)
MERGE_METHOD = Setting(
    "theta.merge.method", "method", "", "Merge method for all parameters. Overrides the methods of `.thetamerge`."
)
MERGE_OPTIONS = Setting("theta.merge.options", "NAME=VALUE ...", "", "Options of the merge method.")
MERGE_REPLAY = Setting(
    "theta.merge.replay",
    "method",
    "apply",
    "Method by which rebase, cherry-pick, revert and stash merge parameters that both sides changed: `apply`, another"
    " method with its options, `conflict`, or `rules` to follow the rules of merges.",
)
MERGE_DEVICE = Setting(
    "theta.merge.device",
    "device",
    "auto",
    "Device that computes merges: `cpu`, `cuda` (all CUDA devices), `cuda:N`, or `auto`, which is CUDA for methods that"
    " multiply or decompose matrices if a device works, and the CPU for everything else.",
)
MERGE_EVALUATE = Setting(
    "theta.merge.evaluate",
    "command",
    "",
    "Command by which `git theta merge --search FILE` evaluates a model if there is no `--eval`. `{checkpoint}` in it"
    " is the path of the model. A file of the work tree cannot set it. See [Search](searching.md).",
)
CLUSTER = Setting(
    "theta.cluster",
    "address",
    "",
    "Where large work runs in jobs: `ray://HOST:PORT` or `HOST:PORT` for a Ray cluster, `local` for threads of this"
    " machine. By default it is not divided into jobs. See [Scale](scale.md).",
)
CLUSTER_REMOTE = Setting(
    "theta.clusterRemote",
    "remote",
    "",
    "Name of a git remote whose parameters are in an object store. Jobs read tensors from there and upload their"
    " results, so that machines share no file system. By default they use the store of the repository, on"
    " a file system that all machines mount. See [Scale](scale.md).",
)
PATH = Setting(
    "theta.path",
    "directory",
    "",
    "Where git finds `git-theta` if `PATH` does not have it, as in programs of a desktop. `git theta install` sets it.",
)
SETTINGS = (
    PATH,
    THREADS,
    CHAIN_DEPTH,
    GC_AUTO,
    GC_GRACE,
    ALLOW_INCOMPLETE,
    STRICT,
    FETCH_INCLUDE,
    FETCH_EXCLUDE,
    MERGE_METHOD,
    MERGE_OPTIONS,
    MERGE_REPLAY,
    MERGE_DEVICE,
    MERGE_EVALUATE,
    CLUSTER,
    CLUSTER_REMOTE,
    Setting(
        "theta.remote.<name>.url",
        "URL",
        "",
        "Where the parameters of a git remote are stored: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`,"
        " `az://CONTAINER/PREFIX`, `ssh://USER@HOST/PATH`, `https://HOST/PATH` (for reading) or a directory."
        " A git remote on this machine, or with a Git LFS server, or of type `git`, needs none.",
    ),
    Setting(
        "theta.remote.<name>.type",
        "plug-in",
        "",
        "Remote plug-in, if the scheme of the URL does not name it. `git` without a URL stores parameters in the git"
        " remote itself.",
    ),
    Setting(
        "theta.remote.<name>.partSize",
        "size",
        "90000000",
        "Maximum size, in bytes or with a suffix of git, of a git blob if parameters are stored in the git remote, and"
        " of an object of an LFS server. Larger packs are divided. For blobs on Hugging Face the default is 9000000,"
        " for LFS servers it is 1900000000.",
    ),
    Setting(
        "theta.remote.<name>.endpoint",
        "URL",
        "",
        "Address of an object store that is not the provider's, such as an S3-compatible server.",
    ),
    Setting(
        "theta.remote.<name>.region",
        "text",
        "",
        "Region of the S3 bucket. Without it, one more request asks Amazon for it.",
    ),
    Setting("theta.remote.<name>.account", "text", "", "Azure storage account that has the container."),
    Setting(
        "theta.remote.<name>.credentials",
        "word",
        "",
        "Source of credentials: for S3 `environment`, `profile`, `imds`, `ecs` or `anonymous`, for Azure `environment`,"
        " `cli`, `imds` or `anonymous`, for Google Cloud `anonymous`. Secrets never go into the configuration.",
    ),
    Setting(
        "theta.remote.<name>.timeout",
        "seconds",
        "60",
        "Time without data from a server after which a transfer fails.",
    ),
    Setting("theta.url", "URL", "", "Default of `theta.remote.<name>.url`, for all remotes."),
    Setting("theta.account", "text", "", "Default of `theta.remote.<name>.account`."),
    Setting("theta.endpoint", "URL", "", "Default of `theta.remote.<name>.endpoint`."),
    Setting("theta.region", "text", "", "Default of `theta.remote.<name>.region`."),
    Setting("theta.type", "plug-in", "", "Default of `theta.remote.<name>.type`."),
)

ENVIRONMENT = {
    "GIT_THETA_MERGE": "Merge method and options for one command. Overrides `theta.merge.method` and"
    " `theta.merge.options`.",
    "GIT_THETA_SKIP_SMUDGE": "If `1`, checkouts leave manifests in the work tree. `git theta checkout` writes the"
    " checkpoints later.",
    "GIT_THETA_TOKEN": "Token with which the GitHub action and the GitLab component comment on pull or merge requests.",
    "GIT_THETA_TRACEBACK": "If set, the traceback of a bug in git theta is printed.",
    "NO_COLOR": "If set, output is not coloured.",
}
"""Environment variables and their meaning."""
