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
    shell:
        "ccnet report --labels {input.labels} --shards {input.shards} --runs {params.runs} {params.protocols}"
        " {params.folders} --out {output.page} 2> {log}"
