// Evaluates the rendered NetworkPolicies for the connections that the documents name: each must be
// allowed, or refused, as docs/deploy.md says.

const CALLER = { namespace: "shop", labels: { "heist.v1/client": "true" } };
const STRANGER = { namespace: "shop", labels: { app: "shop" } };
const PROMETHEUS = { namespace: "monitoring", labels: { app: "prometheus" } };
const DNS = { namespace: "kube-system", labels: { "k8s-app": "kube-dns" } };
const OUTSIDE = { address: "203.0.113.7" };

// Checks the policies of one installation. `complain` gets each connection that differs.
export function checkNetwork(resources, pods, complain) {
  const policies = resources.filter(({ kind }) => kind === "NetworkPolicy");
  if (policies.length === 0) return;
  const { namespace } = policies[0].metadata;
  const own = pods.map(({ metadata }) => ({ namespace, labels: metadata.labels ?? {} }));
  const database = { namespace, labels: { "cnpg.io/cluster": "heist-postgres" } };
  const pooler = { namespace, labels: { "cnpg.io/poolerName": "heist-pooler" } };
  const expect = (isAllowed, from, to, port, protocol = "TCP") => {
    const found = connects(policies, from, to, port, protocol);
    if (found !== isAllowed) {
      const verb = isAllowed ? "cannot reach" : "can reach";
      complain(`${name(from)} ${verb} ${name(to)} at ${protocol} ${port}`);
    }
  };
  for (const pod of own) {
    expect(true, CALLER, pod, 50051);
    expect(true, { ...CALLER, namespace }, pod, 50051);
    expect(false, STRANGER, pod, 50051);
    expect(false, { ...STRANGER, namespace }, pod, 50051);
    expect(false, PROMETHEUS, pod, 50051);
    expect(true, PROMETHEUS, pod, 9464);
    expect(false, CALLER, pod, 9464);
    expect(false, OUTSIDE, pod, 50051);
    for (const port of [5432, 6432, 443, 25, 465, 587, 4317]) expect(true, pod, OUTSIDE, port);
    for (const port of [22, 80, 6379]) expect(false, pod, OUTSIDE, port);
    for (const protocol of ["TCP", "UDP"]) expect(true, pod, DNS, 53, protocol);
    expect(false, pod, OUTSIDE, 53, "UDP");
    expect(true, pod, database, 5432);
    expect(true, pod, pooler, 5432);
  }
  // The database in the same namespace keeps its own connections.
  expect(true, database, database, 5432);
  expect(true, pooler, database, 5432);
  expect(true, STRANGER, database, 5432);
  expect(true, database, OUTSIDE, 9000);
}

// Whether the policies allow a connection between two pods, or a pod and an address.
function connects(policies, from, to, port, protocol) {
  return (
    allows(policies, "Egress", from, to, port, protocol) &&
    allows(policies, "Ingress", to, from, port, protocol)
  );
}

// Whether the policies of one end allow it. An end that no policy selects is open.
function allows(policies, type, end, other, port, protocol) {
  const selecting = policies.filter(
    ({ metadata, spec }) =>
      end.namespace === metadata.namespace &&
      spec.policyTypes.includes(type) &&
      selects(spec.podSelector, end.labels),
  );
  if (selecting.length === 0) return true;
  return selecting.some(({ metadata, spec }) =>
    (spec[type.toLowerCase()] ?? []).some((rule) => {
      const peers = rule.from ?? rule.to;
      const isPort = ({ port: allowed, protocol: allowedProtocol = "TCP" }) =>
        allowed === port && allowedProtocol === protocol;
      return (
        (!rule.ports || rule.ports.some(isPort)) &&
        (!peers || peers.some((peer) => isPeer(peer, other, metadata.namespace)))
      );
    }),
  );
}

function isPeer({ namespaceSelector, podSelector, ipBlock, ...unknown }, other, namespace) {
  if (ipBlock || Object.keys(unknown).length > 0) throw new Error("a rule that is not evaluated");
  if (!other.labels) return false;
  const inNamespace = namespaceSelector
    ? selects(namespaceSelector, { "kubernetes.io/metadata.name": other.namespace })
    : other.namespace === namespace;
  return inNamespace && (!podSelector || selects(podSelector, other.labels));
}

function selects({ matchLabels = {}, matchExpressions }, labels) {
  if (matchExpressions) throw new Error("matchExpressions are not evaluated");
  return Object.entries(matchLabels).every(([key, value]) => labels[key] === value);
}

function name({ namespace, labels, address }) {
  return address ?? `${namespace}/${JSON.stringify(labels)}`;
}
