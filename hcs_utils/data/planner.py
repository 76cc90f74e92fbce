"""What a screen costs: terabytes, hours and money, before a byte is fetched."""

import inspect
import math
from dataclasses import dataclass

from hcs_utils.errors import InputError

Number = float | int


@dataclass(frozen=True)
class Step:
    """One reduction: what is done, by how much less, and the terabytes left."""

    name: str
    factor: float
    tb: float
    why: str


@dataclass(frozen=True)
class Form:
    """A way to store 8-bit planes: bytes before over bytes after, and speed of a core."""

    label: str
    factor: float  # 8-bit bytes over stored bytes
    write_mpx_per_sec: float  # encoded and written, a core


@dataclass(frozen=True)
class Cost:
    """What to expect: terabytes (1e12 bytes) at each step, hours, dollars."""

    tb_in: float  # the screen as its microscope wrote it
    tb_fetched: float  # the fields kept, as they were written: what is downloaded and read
    tb_cropped: float  # of those, the pixels kept
    tb_8bit: float
    tb_out: float  # in their final form
    download_hours: float
    cpu_hours: float
    hours: float  # of preprocessing, on all cores
    dollars_cpu: float
    dollars_download: float
    dollars_storage_month: float

    def steps(self) -> list[Step]:
        """The way from `tb_in` to `tb_out`, each with its factor."""
        ways = (
            ("fields kept", self.tb_fetched, "fields not kept are not downloaded either"),
            ("centre crop", self.tb_cropped, "pixels kept; nothing is resized"),
            ("8 bits a pixel", self.tb_8bit, "percentiles become 0 and 255"),
            ("stored form", self.tb_out, "compression of the 8-bit planes"),
        )
        before, steps = self.tb_in, [Step("as written", 1.0, self.tb_in, "")]
        for name, tb, why in ways:
            steps.append(Step(name, before / tb, tb, why))
            before = tb
        return steps


# Measured by benchmarks/formats.py: 34 fields of U2OS nuclei (BBBC006), 520×696 px, 16 bit made
# 8 bit by percentiles 1 and 99. One channel of one assay: others shrink more or less. A second is
# one of CPU time, on an AMD EPYC.
FORMS = {
    "raw": Form("raw bytes", 1.0, 350.0),
    "png": Form("PNG", 1.86, 75.0),
    "zarr": Form("Zarr, zstd", 1.22, 180.0),
    "jxl": Form("JPEG XL, lossless", 1.92, 36.0),
    "jxl_1": Form("JPEG XL, distance 1", 8.07, 17.6),
}
READ_MPX_PER_SEC = 255.0  # with the above: 16-bit TIFF read, percentiles counted, rescaled

# Of the cross-modal paper, section 3, in its order.
_PAPER = (
    ("16 to 8 bit", 2.0, "percentiles 1 and 99 become 0 and 255"),
    ("TIFF to PNG", 1.9, "one PNG a channel"),
    ("1000² to 768² px", 1.7, "(1000/768)² = 1.70; from 1080² it would be 1.98"),
    ("fields", 1.8, "6 a treated well, 3 a control well; over 8 to 4.4 million fields"),
)
PAPER_TB = (84.7, 7.4)  # before and after, as printed


def paper_steps() -> list[Step]:
    """84.7 TB to 7.4 TB as the cross-modal paper has it, step by step, with its own factors.

    Their product is 11.6, while 84.7 / 7.4 is 11.4: the factors are rounded, and the last step
    here ends at 7.3. Source: Watkinson et al. 2024, section 3.
    """
    tb = PAPER_TB[0]
    steps = [Step("as written", 1.0, tb, "over 8 million fields of about 1000², 16 bit")]
    for name, factor, why in _PAPER:
        tb /= factor
        steps.append(Step(name, factor, tb, why))
    return steps


def cost(
    plates: int,
    wells: int,
    fields: int,
    channels: int,
    px_in: int,
    bit_depth: int,
    px_out: int,
    fields_kept: Number,
    form: str = "png",
    *,
    form_factor: Number | None = None,
    write_mpx_per_sec: Number | None = None,
    read_mpx_per_sec: Number = READ_MPX_PER_SEC,
    network_mb_per_sec: Number = 100,
    cores: int = 2,
    dollars_per_cpu_hour: Number = 0.05,
    dollars_per_tb_egress: Number = 0,
    dollars_per_tb_month: Number = 23,
) -> Cost:
    """What a screen of square fields costs in terabytes, hours and dollars.

    `wells` a plate, `fields` and `fields_kept` (on average) a well; `px_in`, `px_out`: sides in
    pixels; `bit_depth` of the files, 8 or 16. `form` is one of `FORMS`, whose factor and speed
    were measured on real 16-bit images; give your own where yours differ. The network and the
    prices are assumptions, to be replaced by yours; downloading from a public bucket is free.

    Raises `InputError` naming every value that makes no sense.
    """
    given = dict(locals())
    _refuse_nonsense(given)
    kind = FORMS[given.pop("form")]
    given["form_factor"] = kind.factor if form_factor is None else form_factor
    if write_mpx_per_sec is None:
        given["write_mpx_per_sec"] = kind.write_mpx_per_sec
    return formula(**given)


def formula(
    plates,
    wells,
    fields,
    channels,
    px_in,
    bit_depth,
    px_out,
    fields_kept,
    form_factor,
    write_mpx_per_sec,
    read_mpx_per_sec,
    network_mb_per_sec,
    cores,
    dollars_per_cpu_hour,
    dollars_per_tb_egress,
    dollars_per_tb_month,
) -> Cost:
    """The arithmetic of `cost`, and of the interactive figure: its script is made of these lines.

    Only assignments of sums, products and quotients, then what of them is given back.
    """
    planes = plates * wells * channels * fields_kept
    bytes_in = px_in * px_in * bit_depth / 8
    tb_in = plates * wells * channels * fields * bytes_in / 1e12
    tb_fetched = planes * bytes_in / 1e12
    tb_cropped = planes * px_out * px_out * bit_depth / 8 / 1e12
    tb_8bit = planes * px_out * px_out / 1e12
    tb_out = tb_8bit / form_factor
    download_hours = tb_fetched * 1e6 / network_mb_per_sec / 3600
    sec_read = px_in * px_in / 1e6 / read_mpx_per_sec
    sec_write = px_out * px_out / 1e6 / write_mpx_per_sec
    cpu_hours = planes * (sec_read + sec_write) / 3600
    hours = cpu_hours / cores
    dollars_cpu = cpu_hours * dollars_per_cpu_hour
    dollars_download = tb_fetched * dollars_per_tb_egress
    dollars_storage_month = tb_out * dollars_per_tb_month
    return Cost(
        tb_in, tb_fetched, tb_cropped, tb_8bit, tb_out, download_hours, cpu_hours, hours,
        dollars_cpu, dollars_download, dollars_storage_month,
    )  # fmt: skip


_WHOLE = ("plates", "wells", "fields", "channels", "px_in", "px_out", "cores")
_POSITIVE = (
    *_WHOLE, "fields_kept", "form_factor", "read_mpx_per_sec", "write_mpx_per_sec",
    "network_mb_per_sec",
)  # fmt: skip
_AT_LEAST_0 = ("dollars_per_cpu_hour", "dollars_per_tb_egress", "dollars_per_tb_month")


def _refuse_nonsense(given: dict) -> None:
    wrong = []
    for name in (*_POSITIVE, *_AT_LEAST_0):
        value, least = given[name], "0 or more" if name in _AT_LEAST_0 else "above 0"
        if value is None:
            continue
        if not math.isfinite(value) or value < 0 or (value == 0 and name in _POSITIVE):
            wrong.append(f"{name} is {value}; it must be {least}.")
        elif name in _WHOLE and value != int(value):
            wrong.append(f"{name} is {value}; it must be a whole number.")
    if given["bit_depth"] not in (8, 16):
        wrong.append(
            f"bit_depth is {given['bit_depth']}; files hold 8 or 16 bits a pixel (12 lie in 16)."
        )
    if given["form"] not in FORMS:
        wrong.append(f"form is {given['form']!r}; there are: {', '.join(FORMS)}.")
    for kept, whole in (("fields_kept", "fields"), ("px_out", "px_in")):
        if given[kept] > given[whole]:
            wrong.append(f"{kept} is {given[kept]}, more than {whole}, {given[whole]}.")
    if wrong:
        raise InputError("This screen cannot be planned:\n" + "\n".join(f"  {x}" for x in wrong))


def rates(form: str = "png") -> dict[str, Number]:
    """The rates and prices that `cost` takes for a form where none are given, by name."""
    kind, known = FORMS[form], inspect.signature(cost).parameters.values()
    own = {"form_factor": kind.factor, "write_mpx_per_sec": kind.write_mpx_per_sec}
    return {p.name: own.get(p.name, p.default) for p in known if p.kind is p.KEYWORD_ONLY}
