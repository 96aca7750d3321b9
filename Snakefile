# The pipeline: dataset -> shards -> one training per run -> scores -> segmented folders -> report.
# Each stage is a target: snakemake fetch|prepare|train|evaluate|segment|report
from snakemake.utils import min_version

min_version("9.14")


# Used with `--software-deployment-method apptainer` alone; docs/cluster.md makes it.
container: "ccnet.sif"


include: "workflow/rules/config.smk"
include: "workflow/rules/common.smk"
include: "workflow/rules/cluster.py"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/segment.smk"
include: "workflow/rules/report.smk"


rule fetch:
    input:
        expand("results/{dataset}/source/index.json", dataset=DATASET),


rule prepare:
    input:
        expand("results/{dataset}/labels.json", dataset=DATASET),
        expand("results/{dataset}/inspect.html", dataset=DATASET),


# labels.json too: weights need not be newer than it, and where it alone is out of date, Snakemake would stop after it.
rule train:
    input:
        expand("results/{dataset}/labels.json", dataset=DATASET),
        expand("results/{dataset}/{run}/weights.safetensors", dataset=DATASET, run=RUNS),
        expand("results/{dataset}/{run}/history.csv", dataset=DATASET, run=RUNS),


rule evaluate:
    input:
        expand("results/{dataset}/{run}/metrics.json", dataset=DATASET, run=RUNS),
        expand("results/{dataset}/{run}/examples", dataset=DATASET, run=RUNS),
        expand(
            "results/{dataset}/{run}/metrics_{protocol}.json",
            dataset=DATASET,
            run=RUNS,
            protocol=FURTHER,
        ),
        test_metrics,


rule segment:
    input:
        expand("results/{dataset}/labels.json", dataset=DATASET),
        expand(
            "results/{dataset}/{run}/segmented/{folder}/{file}",
            dataset=DATASET,
            run=RUNS,
            folder=FOLDERS,
            file=["index.csv", "index.html"],
        ),


# The default target lists all results, so that a lost file is made again even if the report still exists.
rule report:
    default_target: True
    input:
        expand(rules.write_report.output, dataset=DATASET),
        expand("results/{dataset}/inspect.html", dataset=DATASET),
        rules.train.input,
        rules.evaluate.input,
        rules.segment.input,


onstart:
    if workflow.executor_plugin.name == "slurm":
        jobs = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
        asked = [
            (job.rule.name, job.threads, job.resources.get("mem_mb", 0))
            for job in jobs
        ]
        for warning in too_large(asked):
            print(warning, file=sys.stderr)


onsuccess:
    print_scores()
