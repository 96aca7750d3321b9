rule segment_folder:
    input:
        weights="results/{dataset}/{run}/weights.safetensors",
        folders=folders_or_index,
    output:
        index="results/{dataset}/{run}/segmented/{folder}/index.csv",
        gallery="results/{dataset}/{run}/segmented/{folder}/index.html",
    log:
        "results/{dataset}/logs/segment-{run}-{folder}.log",
    benchmark:
        "results/{dataset}/benchmarks/segment-{run}-{folder}.tsv"
    conda:
        "../envs/ccnet.yaml"
    threads: threads_per_gpu()
    resources:
        gpu=1,
        device=config["device"],
    params:
        folder=lambda wildcards: FOLDERS[wildcards.folder],
    shell:
        "trap : TERM; ccnet segment {params.folder:q} --weights {input.weights} --out $(dirname {output.index})"
        " --device {resources.device} 2>&1 | (trap '' INT TERM; exec tee {log})"
