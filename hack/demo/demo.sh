#!/usr/bin/env bash
# demo.sh: the main job, end to end: a cluster, the operator, a development PDS and a hold, an AppView; an image pushed
# by a real client as alice.test; pods that a kubelet runs from it. `make demo`; hack/demo/down.sh removes it all.
#
# The cluster is kind, a local node from Go modules, or the one that DEMO_CONTEXT names: see hack/cluster/cluster.sh.
# Running it again takes over what changed and pushes anew. DEMO_CLIENT=crane pushes with crane although skopeo is there.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/../lib.sh"

NAMESPACE=atcr-demo
REGISTRY=registry.atcr.local          # what image references on the nodes begin with
PUSH_REGISTRY=127.0.0.1:15000         # where a port-forward makes it reachable for the client
ALICE=alice.test

cluster() { "$REPO/hack/cluster/cluster.sh" "$@"; }
k() { cluster exec kubectl -n "$NAMESPACE" "$@"; }

# begin STEP: say what comes next, and remember it for on_failure.
step=
begin() {
  step=$1
  say "$1"
}

on_failure() {
  local status=$?
  ((status == 0)) && return
  if [[ -n $step ]]; then
    say "what the cluster says:"
    cluster logs "$NAMESPACE" atcr-system 2>&1 | cut -c1-300 >&2 || true
  fi
  say "the demo failed while ${step:-deploying the operator}; see the messages above"
  say "look around with hack/cluster/cluster.sh exec bash; make demo-down removes everything"
}
trap on_failure EXIT

# apply FILE: a manifest of this folder, with the tag of the images that were loaded.
apply() {
  sed -E "s|(image: atcr\.local/[a-z-]+)$|\1:$tag|" "$HERE/$1" | cluster exec kubectl apply --server-side --force-conflicts -f - >/dev/null
}

# make_accounts: passwords of the demo's users, made once per cluster.
make_accounts() {
  k get secret accounts >/dev/null 2>&1 && return
  k create secret generic accounts \
    --from-literal=password="$(random_letters 24)" \
    --from-literal=app-password="$(random_letters 4)-$(random_letters 4)-$(random_letters 4)-$(random_letters 4)" >/dev/null
}
random_letters() { LC_ALL=C tr -dc 'a-z2-7' </dev/urandom 2>/dev/null | head -c "$1" || true; }

# ready KIND NAME: wait until Ready is True for the current generation, saying each change of mind on the way.
ready() {
  local kind=$1 name=$2 begin=$SECONDS state last=
  while true; do
    state=$(k get "$kind" "$name" -o 'jsonpath={.metadata.generation}/{.status.observedGeneration} {.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].reason}: {.status.conditions[?(@.type=="Ready")].message}')
    if [[ $state != "$last" ]]; then
      say "  $kind/$name Ready=${state#* }"
      last=$state
    fi
    [[ $state =~ ^([0-9]+)/([0-9]+)\ True ]] && ((BASH_REMATCH[1] == BASH_REMATCH[2])) && return
    ((SECONDS - begin < 180)) || fail "$kind/$name did not become Ready within 180s"
    sleep 0.5
  done
}

rolled_out() {
  k rollout status "deployment/$1" --timeout=120s >/dev/null || fail "deployment/$1 did not become ready"
  say "  deployment/$1 is ready"
}

"$REPO/hack/cluster/deploy.sh"
tag=$(cat "$REPO/dist/images/TAG")
provider=$(cat "${ATCR_CLUSTER_DIR:-$REPO/.run/cluster}/provider")

begin "starting a development PDS, and a hold that alice owns"
cluster exec kubectl apply --server-side -f "$HERE/namespace.yaml" >/dev/null
make_accounts
apply devnet.yaml
rolled_out devnet
did=$(cluster exec kubectl get --raw "/api/v1/namespaces/$NAMESPACE/services/devnet:2583/proxy/xrpc/com.atproto.identity.resolveHandle?handle=$ALICE" | sed -E 's/.*"did": ?"([^"]+)".*/\1/')
say "  $ALICE is $did"
k create configmap hold-owner --from-literal=did="$did" --dry-run=client -o yaml | k apply --server-side -f - >/dev/null
apply hold.yaml
rolled_out hold

begin "applying an AppView and its HoldLink"
apply appview.yaml
ready holdlink hold
ready appview demo

begin "pushing an image as $ALICE"
app_password=$(k get secret accounts -o 'jsonpath={.data.app-password}' | base64 -d)
crane=
if [[ ${DEMO_CLIENT:-skopeo} == crane ]] || ! has skopeo; then crane=$("$REPO/hack/tool.sh" crane); fi
DEMO_PASSWORD=$app_password DEMO_CRANE=$crane \
  cluster exec "$HERE/push.sh" "$PUSH_REGISTRY" "$ALICE" "$REPO/dist/images/hello.oci.tar" "$ALICE/hello:demo"

begin "telling the nodes where $REGISTRY is"
address=$(k get service demo -o 'jsonpath=http://{.spec.clusterIP}:{.spec.ports[0].port}')
cluster hosts "$REGISTRY" "$address"
if [[ $provider == existing && -t 0 ]]; then
  read -r -p "Press Enter when the nodes have it. " _
fi

begin "running two pods from $REGISTRY/$ALICE/hello:demo, pulled without credentials and with alice's"
k delete pod hello-anonymous hello-secret --ignore-not-found --now >/dev/null
k create secret docker-registry alice --docker-server="$REGISTRY" --docker-username="$ALICE" --docker-password="$app_password" \
  --dry-run=client -o yaml | k apply --server-side --force-conflicts -f - >/dev/null
apply pods.yaml
for pod in hello-anonymous hello-secret; do
  k wait --for=condition=Ready "pod/$pod" --timeout=90s >/dev/null || fail "pod/$pod did not become Ready"
  say "  pod/$pod runs: $(k get events --field-selector "involvedObject.name=$pod,reason=Pulled" -o 'jsonpath={.items[-1:].message}')"
done

say "done"
shell="hack/cluster/cluster.sh exec"
cat <<END

\$ kubectl get appviews,holdlinks,pods -A
$(cluster exec kubectl get appviews,holdlinks,pods -A)

pushed       $REGISTRY/$ALICE/hello:demo  (by way of $PUSH_REGISTRY)
pod says     $(k logs hello-anonymous | tail -n 1)
             $(k logs hello-secret | tail -n 1)

look around  $shell kubectl -n $NAMESPACE describe appview demo
             $shell kubectl -n $NAMESPACE logs deployment/demo
             $shell bash                            a shell where the cluster is reachable
push         $shell kubectl -n $NAMESPACE port-forward service/demo ${PUSH_REGISTRY#*:}:5000    while you push
             skopeo copy --dest-tls-verify=false --dest-creds $ALICE:PASSWORD SOURCE docker://$PUSH_REGISTRY/$ALICE/NAME:TAG
password     $shell kubectl -n $NAMESPACE get secret accounts -o go-template='{{index .data "app-password" | base64decode}}{{"\n"}}'
tear down    make demo-down
END
