"""From sources to a deployed stack: build, lay out, `sam deploy`, and what the emulator leaves out of the template."""

import hashlib
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import botocore.exceptions
import yaml

from emulator import Emulator
from processes import Failure, Processes
from settings import REGION, ROOT, Settings

TEMPLATE = ROOT / "template.yaml"
BUCKET = "tuberry-code"
# The emulator serves a FIFO mapping one batch at a time over all groups, AWS one per group.
FIFO_MAPPINGS = 4
# Packing takes most of a deployment, and here it has to be quick, not small: compression level 1 for all of `sam`.
SAM = """
import zipfile
zipfile.ZipFile.__init__.__defaults__ = ("r", zipfile.ZIP_STORED, True, 1)
from samcli.cli.main import cli
cli(prog_name="sam")
"""
SECRETS = ("DATABASE_URL", "MIGRATION_DATABASE_URL", "REDIS_URL", "JWT_SECRET_KEY", "SECRETS_KEY", "MASTER_BOT_TOKEN", "SERVICE_TOKEN")
PARAMETERS = {
    "PublicBaseUrl": "PUBLIC_BASE_URL",
    "AllowedOrigins": "ALLOWED_ORIGINS",
    "TelegramApiBase": "TELEGRAM_API_BASE",
    "AvitoApiBase": "AVITO_API_BASE",
    "MediaHosts": "MEDIA_HOSTS",
    "MasterBotName": "MASTER_BOT_NAME",
    "AdminTelegramId": "ADMIN_TELEGRAM_ID",
    "DatabaseCa": "DATABASE_CA",
    "JwtExpires": "JWT_EXPIRES",
    "RefreshExpires": "REFRESH_EXPIRES",
    "PollIntervalSeconds": "POLL_INTERVAL_SECONDS",
    "WebhookPollIntervalSeconds": "WEBHOOK_POLL_INTERVAL_SECONDS",
    "AutoReplyDelaySeconds": "AUTO_REPLY_DELAY_SECONDS",
    "WorkerTimeout": "WORKER_TIMEOUT_SECONDS",
    "WorkerVisibility": "WORKER_VISIBILITY_SECONDS",
}


def build(processes: Processes, with_tests: bool) -> None:
    """Builds the functions and the simulators as they run here; with the tests, which share what they are made of."""
    if not shutil.which("cargo"):
        raise Failure("Rust is missing: install rustup, then start again.")
    # The needs of tests change how dependencies are built: in two builds everything would be built twice.
    wanted = ["--workspace", "--all-targets"] if with_tests else ["-p", "functions", "--bins", "-p", "tuberry-local"]
    processes.run("cargo build", ["cargo", "build", "--profile", "local", *wanted], cwd=ROOT, show=True)
    lay_out(ROOT / "target" / "local")


def functions() -> list[str]:
    """The binaries that the template deploys."""
    return re.findall(r"^\s+CodeUri:\s*target/lambda/([a-z0-9-]+)/?\s*$", TEMPLATE.read_text(), re.MULTILINE)


def lay_out(built: Path) -> None:
    """Puts each binary where the template looks for it: target/lambda/<name>/bootstrap."""
    missing = [name for name in functions() if not (built / name).exists()]
    if missing:
        raise Failure(f"The template deploys what no binary is built for: {', '.join(missing)}.")
    for name in functions():
        home = ROOT / "target" / "lambda" / name
        home.mkdir(parents=True, exist_ok=True)
        bootstrap = home / "bootstrap"
        if bootstrap.exists() and bootstrap.samefile(built / name):
            continue
        bootstrap.unlink(missing_ok=True)
        try:
            os.link(built / name, bootstrap)
        except OSError:
            shutil.copy2(built / name, bootstrap)


def deploy(settings: Settings, processes: Processes, emulator: Emulator, template: Path = TEMPLATE) -> dict[str, str]:
    """Deploys the template as production does and returns the stack's outputs."""
    _put_secrets(emulator, settings)
    status = _make_room(emulator, settings.stack_name)
    try:
        emulator.client("s3").create_bucket(Bucket=BUCKET)
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise
    values = {name: settings.values.get(source, "") for name, source in PARAMETERS.items()}
    values |= {"SecretPrefix": settings.stack_name, "Architecture": _architecture(), "AlarmsCompareMetrics": "no"}
    seen, fingerprint = settings.state / "deployed", _fingerprint(template, values)
    if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE") and seen.exists() and seen.read_text() == fingerprint:
        return _outputs(settings, emulator)
    seen.unlink(missing_ok=True)
    overrides = [f"ParameterKey={name},ParameterValue={_quoted(value)}" for name, value in values.items() if value]
    # A samconfig.toml beside the template may describe production: it must have no say here.
    config = settings.state / "samconfig.toml"
    config.write_text("version = 0.1\n")
    environment = {**os.environ, **emulator.environment(), "SAM_CLI_TELEMETRY": "0", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    environment.pop("AWS_PROFILE", None)
    output = processes.run("sam deploy", [
        sys.executable, "-c", SAM, "deploy", "--template-file", template, "--stack-name", settings.stack_name, "--region", REGION,
        "--s3-bucket", BUCKET, "--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset", "--no-fail-on-empty-changeset", "--no-progressbar",
        "--config-file", config, "--parameter-overrides", *overrides,
    ], env=environment, cwd=ROOT)
    (settings.logs / "sam-deploy.log").write_text(output)
    seen.write_text(fingerprint)
    return _outputs(settings, emulator)


def _fingerprint(template: Path, values: dict[str, str]) -> str:
    """A digest of everything that is deployed. If it is the same, nothing is packed: that takes most of a start."""
    digest = hashlib.sha256(template.read_bytes() + json.dumps(values, sort_keys=True).encode())
    for name in functions():
        file = (template.parent / "target" / "lambda" / name / "bootstrap").stat()
        digest.update(f"{name} {file.st_size} {file.st_mtime_ns}".encode())
    return digest.hexdigest()


def _outputs(settings: Settings, emulator: Emulator) -> dict[str, str]:
    stack = emulator.client("cloudformation").describe_stacks(StackName=settings.stack_name)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def connect_routes(settings: Settings, emulator: Emulator, api_id: str) -> int:
    """Creates integrations, routes and CORS from the processed template, whose OpenAPI body the emulator ignores."""
    processed = emulator.client("cloudformation").get_template(StackName=settings.stack_name, TemplateStage="Processed")["TemplateBody"]
    processed = yaml.safe_load(processed) if isinstance(processed, str) else processed
    body = next(resource["Properties"]["Body"] for resource in processed["Resources"].values() if resource["Type"] == "AWS::ApiGatewayV2::Api")
    gateway, lambdas = emulator.client("apigatewayv2"), _function_arns(settings, emulator)
    wanted = {}
    for path, methods in body["paths"].items():
        for method, operation in methods.items():
            uri = json.dumps(operation["x-amazon-apigateway-integration"]["uri"])
            logical_id = re.search(r"\$\{(\w+)\.Arn\}", uri)
            if logical_id:
                wanted[f"{'ANY' if method == 'x-amazon-apigateway-any-method' else method.upper()} {path}"] = lambdas[logical_id[1]]
    integrations = {item["IntegrationUri"]: item["IntegrationId"] for item in gateway.get_integrations(ApiId=api_id, MaxResults="500")["Items"]}
    routes = {item["RouteKey"]: item for item in gateway.get_routes(ApiId=api_id, MaxResults="500")["Items"]}
    for arn in set(wanted.values()) - set(integrations):
        integrations[arn] = gateway.create_integration(
            ApiId=api_id, IntegrationType="AWS_PROXY", IntegrationUri=arn, IntegrationMethod="POST", PayloadFormatVersion="2.0")["IntegrationId"]
    for key, arn in wanted.items():
        target = f"integrations/{integrations[arn]}"
        if key not in routes:
            gateway.create_route(ApiId=api_id, RouteKey=key, Target=target)
        elif routes[key].get("Target") != target:
            gateway.update_route(ApiId=api_id, RouteId=routes[key]["RouteId"], Target=target)
    for key in set(routes) - set(wanted):
        gateway.delete_route(ApiId=api_id, RouteId=routes[key]["RouteId"])
    _set_cors(gateway, api_id, body.get("x-amazon-apigateway-cors", {}), settings)
    return len(wanted)


def widen_fifo(settings: Settings, emulator: Emulator) -> None:
    """Gives each FIFO queue as many mappings as it should have batches at the same time."""
    client = emulator.client("lambda")
    for arn in _function_arns(settings, emulator).values():
        mappings = client.list_event_source_mappings(FunctionName=arn)["EventSourceMappings"]
        fifo = [mapping for mapping in mappings if mapping["EventSourceArn"].endswith(".fifo")]
        for _ in range(FIFO_MAPPINGS - len(fifo) if fifo else 0):
            client.create_event_source_mapping(
                FunctionName=arn, EventSourceArn=fifo[0]["EventSourceArn"], BatchSize=fifo[0]["BatchSize"],
                FunctionResponseTypes=["ReportBatchItemFailures"])


def migrate(settings: Settings, emulator: Emulator) -> None:
    """Brings the database to the schema of the deployed functions."""
    worked, answer = emulator.invoke(f"{settings.stack_name}-migrate", {})
    if not worked:
        message = answer.get("errorMessage", answer) if isinstance(answer, dict) else answer
        raise Failure("The database could not be migrated. If its data is of an earlier version, `make clean-local` forgets it.", str(message))


def _put_secrets(emulator: Emulator, settings: Settings) -> None:
    """Stores the secrets of the functions, each under a name of its own, as the template names them."""
    client = emulator.client("secretsmanager")
    for key in SECRETS:
        name = f"{settings.stack_name}/{key}"
        try:
            if client.get_secret_value(SecretId=name)["SecretString"] != settings[key]:
                client.put_secret_value(SecretId=name, SecretString=settings[key])
        except client.exceptions.ResourceNotFoundException:
            client.create_secret(Name=name, SecretString=settings[key])


def _make_room(emulator: Emulator, name: str) -> str:
    """The status of the stack. One whose first deployment failed can only be deleted, so it is deleted here."""
    client = emulator.client("cloudformation")
    try:
        status = client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
    except botocore.exceptions.ClientError:
        return ""
    if status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"):
        client.delete_stack(StackName=name)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                client.describe_stacks(StackName=name)
            except botocore.exceptions.ClientError:
                return ""
            time.sleep(0.2)
    return status


def _function_arns(settings: Settings, emulator: Emulator) -> dict[str, str]:
    """Logical id to ARN of the stack's functions."""
    arns = {}
    for page in emulator.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=settings.stack_name):
        for resource in page["StackResourceSummaries"]:
            if resource["ResourceType"] == "AWS::Lambda::Function":
                arns[resource["LogicalResourceId"]] = f"arn:aws:lambda:{REGION}:000000000000:function:{resource['PhysicalResourceId']}"
    return arns


def _set_cors(gateway, api_id: str, cors: dict, settings: Settings) -> None:
    cors = cors.get("Fn::If", [None, cors])[1]
    names = {"allowOrigins": "AllowOrigins", "allowMethods": "AllowMethods", "allowHeaders": "AllowHeaders",
             "exposeHeaders": "ExposeHeaders", "maxAge": "MaxAge", "allowCredentials": "AllowCredentials"}
    wanted = {names[key]: value for key, value in cors.items() if key in names}
    # The template names a parameter here; its value stands in the settings.
    wanted["AllowOrigins"] = [origin.strip() for origin in settings["ALLOWED_ORIGINS"].split(",") if origin.strip()]
    if wanted["AllowOrigins"]:
        gateway.update_api(ApiId=api_id, CorsConfiguration=wanted)


def _architecture() -> str:
    return "arm64" if os.uname().machine in ("aarch64", "arm64") else "x86_64"


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
