"""The leaderboard of truth: measures whose value is known, an exact and a bad sampler, resume, the commands."""

import json
import math

import pytest
import torch
from click.testing import CliRunner
from invsolve_benchmarks.truth import affine, cells, runner
from invsolve_benchmarks.truth import suite as suites
from invsolve_benchmarks.truth.cells import EXACT, PRIOR, RefusedError, Settings, Task, cell, fitted
from invsolve_benchmarks.truth.measures import Found, measures
from invsolve_benchmarks.truth.page import page, surely_above, write_pages
from invsolve_benchmarks.truth.posteriors import Posterior
from invsolve_benchmarks.truth.problems import truth_of
from truth_solvers import ExactDraws, Uneven

from invsolve.bench import Suite, list_suites
from invsolve.bench.own import own_suite
from invsolve.cli import main
from invsolve.errors import InputError
from invsolve.priors import GaussianPrior
from invsolve.rng import Rng
from invsolve.solvers import DPS, DiffPIR

GAUSSIAN = "correlated dense 0.005"
DRAWS, CHAINS, SIZE = 8, 256, 6
BRIEF = Settings()


def white(groups=None):
    """N(m_d, I), in six dimensions."""
    means = Rng(1, [0]).normal((DRAWS, SIZE), torch.zeros(1, dtype=torch.float64))[0]

    def draws(count, seed):
        return means[:, None] + Rng(seed, range(DRAWS)).normal((count, SIZE), means)

    return Posterior(means, torch.eye(SIZE, dtype=torch.float64).expand(DRAWS, -1, -1), draws, groups=groups)


def test_the_measures_of_a_law_are_its_formulas():
    """N(m + a, c^2 I): |a| / sqrt n, 1 + that^2 in dB, c^2 - 1, c^2, and W2^2 = |a|^2 + n (c - 1)^2."""
    posterior, a, c = white(), 0.3, 0.5
    draws = posterior.mean[:, None] + a + c * (posterior.draws(CHAINS, 2) - posterior.mean[:, None])
    found = measures(Found(draws, posterior.mean + a, c**2 * posterior.cov), posterior)
    expected = {
        "mean": a,
        "gap": 10 * math.log10(1 + a**2),
        "cov": 1 - c**2,
        "trace": c**2,
        "w2": math.hypot(a, 1 - c),
    }
    for name, number in expected.items():
        assert found[name] == pytest.approx((number, 0.0), abs=1e-6), name


def test_the_measures_of_draws_are_unbiased():
    """The same law from draws alone: within 4 standard errors, and the intervals' shares of a normal law moved and made narrower."""
    posterior, a, c = white(), 0.3, 0.5
    draws = posterior.mean[:, None] + a + c * (posterior.draws(CHAINS, 2) - posterior.mean[:, None])
    found = measures(Found(draws), posterior)
    for name, number in {"mean": a, "cov": 1 - c**2, "trace": c**2}.items():
        value, error = found[name]
        assert abs(value - number) < 4 * error, name
    assert found["w2"][0] == pytest.approx(math.hypot(a, 1 - c), abs=0.03)  # the floor taken off is that of c = 1
    for name, z in (("in50", 0.6745), ("in90", 1.6449)):
        low, high = ((side * c * z + a) / math.sqrt(2) for side in (-1, 1))
        assert found[name][0] == pytest.approx(0.5 * (math.erf(high) - math.erf(low)), abs=0.02), name
    assert found["sliced"][0] > 3
    assert found["ranks"][0] > 0.1


def test_exact_draws_are_at_the_floor():
    posterior = white()
    found = measures(Found(posterior.draws(CHAINS, 3)), posterior)
    for name in ("mean", "cov", "w2"):
        assert found[name][0] <= 3 * found[name][1] + 1e-12, name
    assert abs(found["trace"][0] - 1) < 4 * found["trace"][1]
    assert found["sliced"][0] == pytest.approx(1, abs=0.2)
    assert found["in50"][0] == pytest.approx(0.5, abs=0.02)
    assert found["in90"][0] == pytest.approx(0.9, abs=0.02)
    assert found["ranks"][0] < 0.05


def test_few_chains_of_a_diagonal_posterior_are_pooled():
    """Two chains for each y: variances pooled within groups, 8 y x 3 coordinates a group, are c^2 to 4 / sqrt(48)."""
    posterior, c = white(groups=torch.tensor([0, 0, 0, 1, 1, 1])), 0.5
    draws = posterior.mean[:, None] + c * (posterior.draws(2, 2) - posterior.mean[:, None])
    found = measures(Found(draws), posterior)
    assert found["cov"][0] == pytest.approx(1 - c**2, abs=4 * c**2 * math.sqrt(2 / 24))
    assert set(found) == {"mean", "gap", "cov", "trace", "w2"}


def test_a_point_has_an_error_of_the_mean_alone():
    posterior = white()
    found = measures(Found(posterior.mean[:, None] + 0.3, random=False), posterior)
    assert found["mean"][0] == pytest.approx(0.3)
    assert set(found) == {"mean", "gap"}


@pytest.mark.parametrize("solver", [DiffPIR(steps=3), DPS(steps=2)], ids=["diffpir", "dps"])
def test_the_law_of_an_affine_solver_is_that_of_its_chains(solver):
    """Mean and variances of 4000 chains within 4.5 standard errors of the law that was taken without sampling (32 of them)."""
    truth, chains = truth_of(GAUSSIAN), 4000
    found = affine.law(solver, truth.problem.rows([0, 1]), truth.prior)
    assert found is not None
    mean, cov, _ = found
    x = solver.solve(truth.problem.rows([1] * chains), truth.prior, generator=5).x.flatten(1)
    spread = cov.diagonal()
    assert ((x.mean(0) - mean[1]).abs() < 4.5 * (spread / chains).sqrt()).all()
    assert ((x.var(0) / spread - 1).abs() < 4.5 * math.sqrt(2 / chains)).all()


def test_what_is_not_affine_has_no_law():
    truth, modes = truth_of(GAUSSIAN), truth_of("two modes dense 0.05")
    assert affine.law(DiffPIR(steps=3), modes.problem, modes.prior) is None  # a mixture's denoiser is curved
    assert affine.law(Uneven(), truth.problem, truth.prior) is None
    assert affine.law(DiffPIR(steps=20), truth.problem, truth.prior, most=100) is None  # more numbers than rows


def row(problem, target, name="it", budget=20, settings=BRIEF):
    """One cell of a test's solver."""
    return cell(Task(name, target, problem, (budget,), settings), budget)


@pytest.mark.parametrize("problem", [GAUSSIAN, "correlated mask 0.05", "smooth blur 0.05"])
def test_the_control_is_within_a_tenth_and_six_percent(problem):
    """An exact sampler, by its own algebra: the oracle is right where this is."""
    found = row(problem, "truth_solvers:ExactDraws")
    assert (found["status"], found["law"], found["nfe"], found["exact"]) == ("done", "exact", 20, True)
    assert found["measures"]["mean"][0] < 1e-6
    assert found["measures"]["cov"][0] < 1e-6
    sampled = row(problem, "truth_solvers:ExactDraws", settings=Settings(rows=0))
    assert sampled["law"] == "sampled"
    for name, most in (("mean", 0.1), ("cov", 0.06)):
        assert not surely_above(*sampled["measures"][name], most), name


def test_a_bound_is_broken_by_two_standard_errors_of_the_square():
    """.12 +- .03 is .0144 +- .0072: no proof of anything above .06; .12 +- .01 is."""
    assert not surely_above(0.12, 0.03, 0.06)
    assert surely_above(0.12, 0.01, 0.06)
    assert not surely_above(0.0, 0.1, 0.06)


def test_a_bad_sampler_is_ranked_bad_and_fails_as_a_control():
    rows = [row(GAUSSIAN, target, name) for name, target in ((EXACT, ""), (PRIOR, ""), ("good", "truth_solvers:ExactDraws"))]
    rows += [row(GAUSSIAN, "truth_solvers:Narrow", "bad"), row(GAUSSIAN, "truth_solvers:Broken", "broken")]
    rows += [row(GAUSSIAN, "invsolve.solvers:DDIM", "ddim")]
    text = page(rows, "A page", "a command")
    board = text.split("## Leaderboard")[1].split("## Control")[0]
    assert board.index("| good |") < board.index("| bad |")
    control = text.split("## Control")[1].split("## By problem")[0]
    assert "bad at 20" in control
    assert "good at 20" not in control
    coarse = [{**one, "budget": 10} if one["solver"] == "bad" else one for one in rows]
    finer = [{**one, "solver": "bad"} for one in rows if one["solver"] == "good"]
    assert "all within" in page([*coarse, *finer], "A page", "a command")  # a grid's error at few steps is not the oracle's
    left = text.split("## Not in the tables")[1]
    assert "broken, failed (everywhere; NFE 20): this one is broken" in left
    assert "ddim, refused" in left


def made_up(solver, problem, sliced):
    """A row that has a sliced distance, or, without one, that of a point."""
    measures = {"mean": [0.1, 0.0]} | ({} if sliced is None else {"sliced": [sliced, 0.0]})
    counts = {"budget": 20, "draws": 8, "nfe": 20, "law": "sampled", "chains": 4, "seconds": 0.0}
    return {"solver": solver, "problem": problem, "family": "gaussian", "status": "done", "reason": "", "measures": measures, **counts}


def test_shares_over_other_problems_stand_in_other_tables():
    """Half the way from 1 to 3 and a quarter from 1 to 5: .375 over two; a tenth over one is no better; the last one tells nobody apart."""
    rows = [
        made_up(name, problem, d)
        for name, ends in ((EXACT, (1, 1, 1)), (PRIOR, (3, 5, 1.2)))
        for problem, d in zip("abc", ends, strict=True)
    ]
    rows += [made_up("both", problem, d) for problem, d in zip("abc", (2, 2, 9), strict=True)]
    rows += [made_up("one", problem, d) for problem, d in zip("abc", (1.2, None, None), strict=True)]
    rows += [made_up("point", problem, None) for problem in "abc"]
    board = page(rows, "A page", "a command", "A note.").split("## Leaderboard")[1].split("## Control")[0]
    first, second, third = board.split("\n### ")[1:]
    assert first.startswith("Ranked on all 2 problems")
    assert "| both | 20 | 3 | 0.38 [2] | 0.10 [3] |" in first
    assert second.startswith("Ranked on 1 problem: a\n")
    assert "| one | 20 | 3 | 0.10 [1] | 0.10 [3] |" in second
    assert "| point | 20 | 3 |  | 0.10 [3] |" in third


def test_the_controls_keep_the_bound_and_are_not_ranked():
    """OT-ODE with all products at its hundred evaluations: the law, exact, on the smallest of its problems."""
    plan = [task for task in runner.controls(("white dense 0.05", "smooth blur 0.05"), BRIEF) if task.solver.startswith("ot-ode")]
    assert [(task.problem, task.budgets) for task in plan] == [("white dense 0.05", (100,))]
    rows = [cell(plan[0], 100)]
    assert (rows[0]["law"], rows[0]["exact"]) == ("exact", True)
    assert rows[0]["measures"]["mean"][0] < 0.1
    assert rows[0]["measures"]["cov"][0] < 0.06
    text = page(rows, "A page", "a command")
    assert "all within" in text
    assert plan[0].solver not in text.split("## Leaderboard")[1].split("## Control")[0]


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """A finished cell is not computed again; one with another seed is; one that failed is tried again."""
    solvers = [("good", "truth_solvers:ExactDraws"), ("broken", "truth_solvers:Broken")]
    plan = runner.tasks([GAUSSIAN], (20, 40), solvers, BRIEF)
    first = runner.run(plan, tmp_path, processes=1, progress=False)
    assert [one["status"] for one in first] == ["done"] * 4 + ["failed"] * 2
    computed = []
    monkeypatch.setattr(runner, "cell", lambda task, budget: computed.append(task.solver) or cell(task, budget))
    again = runner.run(plan, tmp_path, processes=1, progress=False)
    assert computed == ["broken", "broken"]
    assert again[:4] == first[:4]
    computed.clear()
    runner.run(runner.tasks([GAUSSIAN], (20,), solvers[:1], Settings(seed=1)), tmp_path, processes=1, progress=False)
    assert computed == [EXACT, PRIOR, "good"]


def test_the_key_knows_the_source_of_the_solver(monkeypatch):
    task = Task("good", "truth_solvers:ExactDraws", GAUSSIAN, (20,))
    before = cells.inputs(task, 20)
    monkeypatch.setattr(cells, "source_hash", lambda module: "another")
    assert cells.inputs(task, 20) != before


def test_steps_are_set_by_the_evaluations_they_take():
    """Two evaluations a step and one besides; a solver that needs more than the budget is refused, with what it needs."""

    def at(steps, each=2):
        return ExactDraws(steps=steps), {"nfe": each * steps + 1, "backward": 0, "steps": steps}, True

    assert fitted(at, 20)[1]["nfe"] in (19, 21)
    assert fitted(at, 100)[1]["nfe"] in range(90, 106)
    with pytest.raises(RefusedError, match="301 evaluations at least"):
        fitted(lambda steps: at(steps, 300), 20)


def test_the_tables_hold_every_figure(tmp_path):
    rows = [row(GAUSSIAN, "", EXACT), row(GAUSSIAN, "truth_solvers:ExactDraws", "good")]
    path = write_pages(rows, tmp_path, "A page", "a command")
    assert path.read_text().startswith("# A page")
    held = json.loads((tmp_path / "truth.json").read_text())
    assert held[1]["measures"] == rows[1]["measures"]
    lines = (tmp_path / "truth.csv").read_text().splitlines()
    assert len(lines) == 3
    assert lines[0].split(",")[:2] == ["solver", "problem"]
    assert {len(line.split(",")) for line in lines} == {len(lines[0].split(","))}


def test_a_suite_that_runs_itself_is_listed_and_is_no_list_of_parts():
    listed = {one.name: one for one in list_suites()}
    assert listed["truth"].operators == tuple(own_suite("truth").operators)
    assert not listed["truth-full"].error
    assert own_suite("smoke") is None
    with pytest.raises(InputError, match="invsolve bench run truth"):
        Suite.load("truth")


@pytest.fixture
def brief(monkeypatch, tmp_path):
    """The suite cut to one problem, in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(suites.TruthSuite, "operators", (GAUSSIAN,))
    monkeypatch.setattr(suites.TruthSuite, "budgets", {False: (20,), True: (20,)})
    monkeypatch.setattr(runner, "each", lambda plan, out, fresh, processes: (runner.run_task(task, out, fresh) for task in plan))
    return tmp_path


def invoke(*words):
    """The command's result."""
    return CliRunner().invoke(main, list(words))


def test_check_truth_gives_the_page_of_one_solver(brief):
    done = invoke("check", "solver", "truth_solvers:ExactDraws", "--truth")
    assert done.exit_code == 0, done.output
    assert "# Truth: truth_solvers:ExactDraws" in done.output
    assert f"{GAUSSIAN}: " in done.stderr  # a line per problem, for who waits
    assert (brief / "runs" / "truth-truth_solvers-ExactDraws" / "truth.csv").is_file()
    assert invoke("check", "solver", "truth_solvers:Broken", "--truth").exit_code == 1
    assert "of one solver" in invoke("check", "operator", "mask", "--truth").output


def test_bench_run_truth_writes_its_page(brief, monkeypatch):
    monkeypatch.setattr(runner, "contestants", lambda entries=None: [("good", "truth_solvers:ExactDraws")])
    monkeypatch.setattr(runner, "controls", lambda problems, settings: [])
    done = invoke("bench", "run", "truth", "--out", "here", "--limit", "50")
    assert done.exit_code == 0, done.output
    text = (brief / "here" / "truth.md").read_text()
    assert "| good | 20 |" in text
    assert "`invsolve bench run truth --limit 50`" in text
    assert "leave out --device and --batch" in invoke("bench", "run", "truth", "--batch", "2").output


def test_a_gaussian_prior_is_a_minimisers_too():
    """A solver of regularisers has -log p: its minimum is the posterior's mean."""
    found = row("white dense 0.05", "invsolve.solvers:AdamTV", "adam-tv")
    assert (found["status"], found["law"], found["nfe"]) == ("done", "point", 0)
    assert isinstance(truth_of("white dense 0.05").prior, GaussianPrior)
