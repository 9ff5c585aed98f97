// Checks rendered manifests for mistakes that the schemas of Kubernetes do not detect: in resources
// of operators, in selectors without a match, names without a target, quantities and ports.
//
//     node check.mjs FOLDER

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as cluster from "./node_modules/@kubernetes-models/cloudnative-pg/_schemas/ComGithubCloudnativePgCloudnativePgApiV1Cluster.js";
import * as pooler from "./node_modules/@kubernetes-models/cloudnative-pg/_schemas/ComGithubCloudnativePgCloudnativePgApiV1Pooler.js";
import * as podMonitor from "./node_modules/@kubernetes-models/prometheus-operator/_schemas/ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoringV1PodMonitor.js";
import * as prometheusRule from "./node_modules/@kubernetes-models/prometheus-operator/_schemas/ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoringV1PrometheusRule.js";
import { parseAllDocuments } from "yaml";
import { checkNetwork } from "./network.mjs";

const OPERATORS = {
  "postgresql.cnpg.io/v1 Cluster": cluster,
  "postgresql.cnpg.io/v1 Pooler": pooler,
  "monitoring.coreos.com/v1 PodMonitor": podMonitor,
  "monitoring.coreos.com/v1 PrometheusRule": prometheusRule,
};
const QUANTITY = /^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$/;
const PORT_NAME = /^(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$/;
// Operators create these by hand, because they are secret.
const SECRETS = [
  "heist-database",
  "heist-database-archive",
  "heist-database-owner",
  "heist-email",
  "heist-jwt",
  "heist-tls",
];
// Overlays that are rendered separately and run together.
const TOGETHER = [
  ["development", "development-migrate"],
  ["staging", "staging-migrate"],
  ["shared", "migrate", "deployment-blue", "deployment-green", "service-blue"].map(
    (part) => `production-${part}`,
  ),
  ["shared", "migrate", "deployment-blue", "deployment-green", "service-green"].map(
    (part) => `production-${part}`,
  ),
  ["postgres"],
];

const folder = process.argv[2];
const problems = [];
let checked = 0;

const rendered = Object.fromEntries(
  readdirSync(folder).map((file) => {
    const documents = parseAllDocuments(readFileSync(join(folder, file), "utf8"));
    return [file.replace(".yaml", ""), documents.map((document) => document.toJS())];
  }),
);
const unchecked = Object.keys(rendered).filter((name) => !TOGETHER.flat().includes(name));
if (unchecked.length > 0) problems.push(`no check covers ${unchecked}`);
for (const names of TOGETHER) check(names.flatMap((name) => rendered[name]), names);

for (const problem of new Set(problems)) console.error(`check-manifests: ${problem}`);
console.log(`${checked} resources checked, ${new Set(problems).size} problems`);
process.exit(problems.length > 0 ? 1 : 0);

function check(resources, names) {
  const pods = resources.map(podTemplate).filter(Boolean);
  checkNetwork(resources, pods, (what) => problems.push(`${names[0]}…: ${what}`));
  for (const resource of resources) {
    checked += 1;
    const complain = (what) =>
      problems.push(`${names[0]}…: ${resource.kind} ${resource.metadata.name}: ${what}`);
    checkOperatorSchema(resource, complain);
    checkQuantities(resource, complain);
    checkSelectors(resource, pods, resources, complain);
    const template = podTemplate(resource);
    if (template) checkPod(template, resources, complain);
  }
}

function podTemplate({ kind, spec }) {
  if (kind === "Deployment" || kind === "Job") return spec.template;
  return kind === "CronJob" ? spec.jobTemplate.spec.template : undefined;
}

function checkOperatorSchema(resource, complain) {
  const schema = OPERATORS[`${resource.apiVersion} ${resource.kind}`];
  if (!schema) {
    if (/\.(io|com)\//.test(resource.apiVersion) && !resource.apiVersion.includes(".k8s.io/")) {
      complain(`no schema for ${resource.apiVersion}`);
    }
    return;
  }
  const seen = new Set();
  if (!schema.validate(watched(resource, seen))) {
    for (const { instancePath, message } of schema.validate.errors) complain(`${instancePath} ${message}`);
  }
  // These schemas accept unknown fields. A field that validation never read is unknown.
  for (const path of paths(resource)) {
    if (!seen.has(path)) complain(`${path} is unknown`);
  }
}

// A proxy of the value that records the path of each field that is read.
function watched(value, seen, path = "") {
  if (value === null || typeof value !== "object") return value;
  return new Proxy(value, {
    get(target, key) {
      const here = `${path}.${String(key)}`;
      seen.add(here);
      return watched(target[key], seen, here);
    },
  });
}

function paths(value, path = "") {
  if (value === null || typeof value !== "object") return [];
  return Object.entries(value).flatMap(([key, inner]) => {
    const here = `${path}.${key}`;
    return [here, ...paths(inner, here)];
  });
}

function checkQuantities(value, complain, path = "") {
  if (value === null || typeof value !== "object") return;
  for (const [key, inner] of Object.entries(value)) {
    const here = `${path}.${key}`;
    if (/\.(requests|limits)$/.test(path) && !QUANTITY.test(String(inner))) {
      complain(`${here}: ${inner} is no quantity`);
    }
    checkQuantities(inner, complain, here);
  }
}

function checkSelectors({ kind, spec, metadata }, pods, resources, complain) {
  const matching = (labels) => pods.filter((pod) => includes(pod.metadata.labels, labels));
  const selects = (labels) => {
    if (!labels || matching(labels).length === 0) complain("its selector selects no pod");
  };
  if (kind === "Service") {
    selects(spec.selector);
    const names = matching(spec.selector).flatMap(portNames);
    for (const { targetPort } of spec.ports) {
      if (!names.includes(targetPort)) complain(`no pod has a port ${targetPort}`);
    }
  }
  if (kind === "Deployment" && !includes(spec.template.metadata.labels, spec.selector.matchLabels)) {
    complain("its selector does not select its own pods");
  }
  if (kind === "Deployment") {
    const own = matching(spec.selector.matchLabels);
    if (own.length !== 1) complain("its selector selects pods of others");
  }
  if (kind === "PodDisruptionBudget") {
    selects(spec.selector.matchLabels);
    if (matching(spec.selector.matchLabels).length > 1) complain("pods have two budgets");
  }
  if (kind === "PodMonitor") {
    selects(spec.selector.matchLabels);
    const names = matching(spec.selector.matchLabels).flatMap(portNames);
    for (const { port } of spec.podMetricsEndpoints ?? []) {
      if (!names.includes(port)) complain(`no pod has a port ${port}`);
    }
  }
  if (kind === "HorizontalPodAutoscaler" && !find(resources, "Deployment", spec.scaleTargetRef.name)) {
    complain(`there is no Deployment ${spec.scaleTargetRef.name}`);
  }
  if (kind === "Pooler" && !find(resources, "Cluster", spec.cluster.name)) {
    complain(`there is no Cluster ${spec.cluster.name}`);
  }
  if (!metadata.namespace) complain("it has no namespace");
}

function checkPod({ spec }, resources, complain) {
  const account = spec.serviceAccountName;
  if (account && !find(resources, "ServiceAccount", account)) {
    complain(`there is no ServiceAccount ${account}`);
  }
  for (const { configMap, secret, persistentVolumeClaim: claim } of spec.volumes ?? []) {
    if (configMap && !find(resources, "ConfigMap", configMap.name)) {
      complain(`there is no ConfigMap ${configMap.name}`);
    }
    if (secret && !SECRETS.includes(secret.secretName)) complain(`no Secret ${secret.secretName}`);
    if (claim && !find(resources, "PersistentVolumeClaim", claim.claimName)) {
      complain(`there is no PersistentVolumeClaim ${claim.claimName}`);
    }
  }
  for (const container of spec.containers) {
    if (!/^registry\.example\.com\/heist(:v|@sha256:)/.test(container.image)) {
      complain(`${container.image} is not from the registry`);
    }
    for (const { configMapRef } of container.envFrom ?? []) {
      const map = find(resources, "ConfigMap", configMapRef.name);
      if (!map) complain(`there is no ConfigMap ${configMapRef.name}`);
      else checkShutdown(map.data, spec, complain);
    }
    for (const { name, valueFrom } of container.env ?? []) {
      if (!SECRETS.includes(valueFrom.secretKeyRef.name)) complain(`${name}: no such Secret`);
    }
    for (const { name } of container.ports ?? []) {
      if (!PORT_NAME.test(name)) complain(`${name} is no name of a port`);
    }
    for (const { name } of container.volumeMounts ?? []) {
      if (!spec.volumes?.some((volume) => volume.name === name)) complain(`no volume ${name}`);
    }
    for (const probe of [container.startupProbe, container.livenessProbe, container.readinessProbe]) {
      const ports = (container.ports ?? []).map(({ containerPort }) => containerPort);
      const isTls = container.volumeMounts?.some(({ name }) => name === "tls");
      if (probe && Boolean(probe.grpc) === Boolean(isTls)) {
        complain("Kubernetes probes gRPC without TLS: a server with TLS is probed by `heist healthcheck`");
      }
      if (probe?.grpc && !ports.includes(probe.grpc.port)) complain(`a probe of port ${probe.grpc.port}`);
    }
  }
}

// A process that Kubernetes kills has not shut down in order.
function checkShutdown(environment, spec, complain) {
  const grace = Number.parseInt(environment.HEIST_SHUTDOWN_GRACE, 10);
  const delay = Number.parseInt(environment.HEIST_SHUTDOWN_DELAY, 10);
  if (!(delay < grace && grace < spec.terminationGracePeriodSeconds)) {
    complain("HEIST_SHUTDOWN_DELAY < HEIST_SHUTDOWN_GRACE < terminationGracePeriodSeconds");
  }
}

function portNames({ spec }) {
  return spec.containers.flatMap(({ ports }) => (ports ?? []).map(({ name }) => name));
}

function includes(labels, wanted) {
  return Object.entries(wanted).every(([key, value]) => labels?.[key] === value);
}

function find(resources, kind, name) {
  return resources.find((it) => it.kind === kind && it.metadata.name === name);
}
