rule evaluate_run:
    input:
        weights="results/{dataset}/{run}/weights.safetensors",
        shards=shards("val"),
    output:
        metrics=report(
            "results/{dataset}/{run}/metrics.json",
            caption="../report/metrics.rst",
            category="Runs",
            labels={"run": "{run}", "what": "scores"},
        ),
        examples=directory("results/{dataset}/{run}/examples"),
    log:
        "results/{dataset}/logs/evaluate-{run}.log",
    benchmark:
        "results/{dataset}/benchmarks/evaluate-{run}.tsv"
    conda:
        "../envs/ccnet.yaml"
    threads: threads_per_gpu()
    resources:
        gpu=1,
        device=config["device"],
    params:
        protocol=" ".join(protocol_flags("standard")),
        examples="--examples results/{dataset}/{run}/examples",
    shell:
        "trap : TERM; ccnet evaluate --weights {input.weights} --shards {input.shards} --out {output.metrics}"
        " {params.protocol} {params.examples} --device {resources.device} 2>&1 | (trap '' INT TERM; exec tee {log})"


use rule evaluate_run as evaluate_test with:
    input:
        weights="results/{dataset}/{run}/weights.safetensors",
        shards=shards("test"),
    output:
        metrics=report(
            "results/{dataset}/{run}/metrics_test.json",
            caption="../report/metrics.rst",
            category="Runs",
            labels={"run": "{run}", "what": "scores, test split"},
        ),
    log:
        "results/{dataset}/logs/evaluate-{run}-test.log",
    benchmark:
        "results/{dataset}/benchmarks/evaluate-{run}-test.tsv"
    resources:
        gpu=1,
        device=config["device"],
    params:
        protocol=" ".join(protocol_flags("standard")),
        examples="",


use rule evaluate_run as evaluate_protocol with:
    output:
        metrics=report(
            "results/{dataset}/{run}/metrics_{protocol}.json",
            caption="../report/metrics.rst",
            category="Runs",
            labels={"run": "{run}", "what": "scores, {protocol}"},
        ),
    log:
        "results/{dataset}/logs/evaluate-{run}-{protocol}.log",
    benchmark:
        "results/{dataset}/benchmarks/evaluate-{run}-{protocol}.tsv"
    resources:
        gpu=1,
        device=config["device"],
    params:
        protocol=lambda wildcards: " ".join(protocol_flags(wildcards.protocol)),
        examples="",
