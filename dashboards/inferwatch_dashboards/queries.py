"""What the queries of every panel share.

Every query names the scrape job, and a model's queries its namespace and name. None names the scrape target: the
replicas of a service add up to one model, and a panel split by replica would hide that.
"""

JOB = 'job=~"$job"'
MODEL = f'{JOB}, model_namespace=~"$model_namespace", model_name=~"$model_name"'
BY_MODEL = "by (model_namespace, model_name)"
BY_DETECTOR = "by (model_namespace, model_name, model_endpoint, detector)"
DETECTOR = "{{model_namespace}}/{{model_name}} {{model_endpoint}} {{detector}}"
EXCESS = f"inferwatch_drift_score{{{MODEL}}} / inferwatch_drift_threshold{{{MODEL}}}"
