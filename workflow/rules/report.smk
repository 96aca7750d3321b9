rule write_report:
    input:
        labels="results/{dataset}/labels.json",
        shards=shards("val"),
        settings=expand("results/{{dataset}}/{run}/settings.json", run=RUNS),
        history=expand("results/{{dataset}}/{run}/history.csv", run=RUNS),
        metrics=expand("results/{{dataset}}/{run}/metrics.json", run=RUNS),
        further=expand(
            "results/{{dataset}}/{run}/metrics_{protocol}.json",
            run=RUNS,
            protocol=FURTHER,
        ),
        tested=test_metrics,
        examples=expand("results/{{dataset}}/{run}/examples", run=RUNS),
        segmented=expand(
            "results/{{dataset}}/{run}/segmented/{folder}/index.csv",
            run=RUNS,
            folder=FOLDERS,
        ),
        efficiency="results/efficiency.csv" if config["efficiency"] else [],
    output:
        page=report(
            "results/{dataset}/report.html",
            caption="../report/report.rst",
            category="Summary",
            labels={"dataset": "{dataset}", "what": "runs compared"},
        ),
        table=report(
            "results/{dataset}/results.csv",
            caption="../report/results.rst",
            category="Summary",
            labels={"dataset": "{dataset}", "what": "all figures"},
        ),
        paper="results/{dataset}/results.tex",
        loss=report(
            "results/{dataset}/loss.svg",
            caption="../report/loss.rst",
            category="Summary",
            labels={"dataset": "{dataset}", "what": "training loss"},
        ),
        mean_iou=report(
            "results/{dataset}/mean_iou.svg",
            caption="../report/mean_iou.rst",
            category="Summary",
            labels={"dataset": "{dataset}", "what": "validation mIoU"},
        ),
    log:
        "results/{dataset}/logs/report.log",
    conda:
        "../envs/ccnet.yaml"
    params:
        runs=expand("results/{{dataset}}/{run}", run=RUNS),
        protocols=lambda wildcards: " ".join(
            ["--protocols", *tested(), *FURTHER] if tested() or FURTHER else []
        ),
        folders=" ".join(["--folders", *FOLDERS] if FOLDERS else []),
        efficiency=lambda wildcards, input: option(
            "--efficiency", input.efficiency or None
        ),
    shell:
        "ccnet report --labels {input.labels} --shards {input.shards} --runs {params.runs} {params.protocols}"
        " {params.folders} {params.efficiency} --out {output.page} 2> {log}"


# It takes as many cores and GPUs as a training, so that none runs beside it, though it computes on the CPU.
rule measure_efficiency:
    output:
        table="results/efficiency.csv",
        figure=report(
            "results/efficiency.svg",
            caption="../report/efficiency.rst",
            category="Summary",
            labels={"dataset": "any", "what": "costs of attention"},
        ),
    log:
        "results/logs/efficiency.log",
    conda:
        "../envs/ccnet.yaml"
    threads: threads_per_gpu()
    resources:
        gpu=1,
    shell:
        "ccnet efficiency --out {output.table} 2> {log}"
