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
    shell:
        "ccnet evaluate --weights {input.weights} --shards {input.shards} --out {output.metrics}"
        " --examples {output.examples} --device {resources.device} 2>&1 | tee -i {log}"
