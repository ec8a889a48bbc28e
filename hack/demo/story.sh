#!/usr/bin/env bash
# story.sh: one user's way from `helm install` to a pod that runs from a private image, on a real cluster. Prints the page
# hack/demo/story.md: every command, and what it answered.
#
#   hack/demo/story.sh >hack/demo/story.md        # STORY_KEEP=1 leaves the cluster up
#
# The cluster is the demo's (hack/cluster/cluster.sh), and so are the images. What a user has anyway is set up first and is
# not part of the story: a cluster whose nodes have the images, and an account, here on a development PDS.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/../lib.sh"

DIR=${ATCR_CLUSTER_DIR:-$REPO/.run/cluster}
cluster() { "$REPO/hack/cluster/cluster.sh" "$@"; }
quiet() { cluster exec "$@" >/dev/null; }

finish() {
  local status=$?
  if ((status != 0)); then
    say "the story failed; what the cluster says:"
    cluster logs atcr atcr-system 2>&1 | cut -c1-300 >&2 || true
  fi
  [[ -n ${STORY_KEEP:-} ]] || cluster down
  exit "$status"
}
trap finish EXIT

cluster up
tag=$(version)
[[ $tag != *-dirty ]] || tag=$tag-$(date -u +%H%M%S)
say "building the images"
go -C "$REPO" run ./hack/images --root "$REPO" --out "$REPO/dist" --version "$tag" product hello >&2
cluster load "$REPO"/dist/images/{atcr-operator,atcr-appview,atcr-hold,atcr-dev}.oci.tar

say "an account on a development PDS"
random_letters() { LC_ALL=C tr -dc 'a-z2-7' </dev/urandom 2>/dev/null | head -c "$1" || true; }
quiet kubectl apply --server-side -f "$HERE/namespace.yaml"
quiet kubectl -n atcr-demo create secret generic accounts --from-literal=password="$(random_letters 24)" \
  --from-literal=app-password="$(random_letters 4)-$(random_letters 4)-$(random_letters 4)-$(random_letters 4)"
sed -E "s|(image: atcr\.local/[a-z-]+)$|\1:$tag|" "$HERE/devnet.yaml" | quiet kubectl apply --server-side -f -
quiet kubectl -n atcr-demo rollout status deployment/devnet --timeout=120s
APP_PASSWORD=$(cluster exec kubectl -n atcr-demo get secret accounts -o 'jsonpath={.data.app-password}' | base64 -d)
DID=$(cluster exec kubectl get --raw "/api/v1/namespaces/atcr-demo/services/devnet:2583/proxy/xrpc/com.atproto.identity.resolveHandle?handle=alice.test" |
  sed -E 's/.*"did": ?"([^"]+)".*/\1/')

scratch=$DIR/story
mkdir -p "$scratch"
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/graph"\nrunroot = "%s/run"\n' "$scratch" "$scratch" >"$scratch/storage.conf"
printf '[[registry]]\nlocation = "127.0.0.1:15000"\ninsecure = true\n' >"$scratch/registries.conf"
HELM_FOLDER=$(dirname "$("$REPO/hack/tool.sh" helm)")
export HELM_FOLDER APP_PASSWORD DID TAG=$tag HELM_CACHE_HOME=$scratch HELM_CONFIG_HOME=$scratch HELM_DATA_HOME=$scratch \
  CONTAINERS_STORAGE_CONF=$scratch/storage.conf CONTAINERS_REGISTRIES_CONF=$scratch/registries.conf REGISTRY_AUTH_FILE=$scratch/auth.json

# run COMMAND: the command as a user types it, and its answer. Passwords are in variables, and so in no answer.
run() {
  printf '\n```console\n$ %s\n' "$1"
  cluster exec bash -c 'PATH=$HELM_FOLDER:$PATH; cd "$0"; eval "$1" 2>&1' "$REPO" "$1" |
    sed -E "s|$REPO/||g; s|$TAG|\$TAG|g; s|$DID|\$DID|g; s/[[:space:]]+$//"
  printf '```\n'
}

cat <<'PAGE'
<!-- Written by hack/demo/story.sh, which runs every command on a real cluster. -->
# From helm install to a pod from a private image

Alice has a cluster and an account of the AT Protocol. She wants a registry of her own, with a hold that nobody else can
read. In this run the account is `alice.test` on a development PDS in the cluster (`hack/demo/devnet.yaml`), so the values
marked *development* name its directory: with an account of the public network they are left out. `$DID` is her DID,
`$APP_PASSWORD` an app password of hers, `$TAG` the version of the images, which the nodes have. After `make push` the charts
are those in `dist/`, which name the images, and no tag is set.

## 1. The operator
PAGE
run 'helm install atcr-operator charts/atcr-operator --namespace atcr-system --create-namespace \
    --set image.tag=$TAG,appView.image.tag=$TAG --wait | head -n 5'
run 'kubectl -n atcr-system get deployments,pods'

cat <<'PAGE'

## 2. A hold that only Alice reads

The chart makes the HoldLink too, which waits for its AppView. The last two lines are *development*.
PAGE
run 'helm install hold charts/atcr-hold --namespace atcr --create-namespace \
    --set fullnameOverride=hold,image.tag=$TAG,owner=$DID,persistence.size=1Gi \
    --set holdLink.enabled=true,holdLink.appView.name=registry \
    --set plcURL=http://devnet.atcr-demo.svc.cluster.local:2583 \
    --set "allowedPrivateCIDRs={10.0.0.0/8,172.16.0.0/12,192.168.0.0/16}" --wait'

cat <<'PAGE'

## 3. The registry

`registry.atcr.local` is what image references on the nodes begin with; `127.0.0.1:15000` is how Alice reaches it from her
desk, by a port-forward. `identity` and `network` are *development*.
PAGE
run 'kubectl -n atcr apply -f - <<EOF
apiVersion: operator.atcr.io/v1alpha1
kind: AppView
metadata: {name: registry}
spec:
  baseURL: http://registry.atcr.local
  allowedHosts: ["127.0.0.1:15000"]
  identity:
    plcURL: http://devnet.atcr-demo.svc.cluster.local:2583
    handleResolverURL: http://devnet.atcr-demo.svc.cluster.local:2583
  network:
    allowedPrivateCIDRs: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]
EOF'
run 'kubectl -n atcr wait appview/registry holdlink/hold --for=condition=Ready --timeout=3m'
run 'kubectl -n atcr get appviews,holdlinks,pods'

cat <<'PAGE'

## 4. Log in and push

`docker` takes the same words as `podman`. The image is the demo's `hello`, which prints a greeting.
PAGE
cluster exec kubectl -n atcr port-forward service/registry 15000:5000 >"$scratch/port-forward.log" 2>&1 &
forward=$!
trap 'kill "$forward" 2>/dev/null || true; finish' EXIT
reachable() { cluster exec bash -c '(: </dev/tcp/127.0.0.1/15000)'; }
wait_for 30 "the registry at 127.0.0.1:15000" reachable
printf '\n```console\n$ kubectl -n atcr port-forward service/registry 15000:5000 &\n```\n'
run 'podman login 127.0.0.1:15000 -u alice.test --password-stdin <<<"$APP_PASSWORD"'
run 'podman load -q -i dist/images/hello.oci.tar'
run 'podman push atcr.local/hello:$TAG 127.0.0.1:15000/alice.test/hello:v1'

cat <<'PAGE'

## 5. The nodes learn where the registry is

Not needed when `baseURL` is a public name. containerd reads the file at each pull, without a restart.
PAGE
address=$(cluster exec kubectl -n atcr get service registry -o 'jsonpath=http://{.spec.clusterIP}:{.spec.ports[0].port}')
cluster hosts registry.atcr.local "$address" >&2
printf '\n```console\n$ cat /etc/containerd/certs.d/registry.atcr.local/hosts.toml      # on each node\n'
"$REPO/hack/cluster/hosts-toml.sh" "$address"
printf '```\n'

cat <<'PAGE'

## 6. A pod from the private image

Without credentials the pull is refused, and the kubelet says why:
PAGE
run 'kubectl -n atcr run stranger --image=registry.atcr.local/alice.test/hello:v1 --restart=Never'
refused() { [[ -n $(cluster exec kubectl -n atcr get events --field-selector involvedObject.name=stranger,reason=Failed -o name) ]]; }
wait_for 90 "the refusal" refused
run "kubectl -n atcr get events --field-selector involvedObject.name=stranger,reason=Failed -o jsonpath='{.items[0].message}{\"\\n\"}'"

cat <<'PAGE'

With Alice's app password as a pull secret it runs:
PAGE
run 'kubectl -n atcr create secret docker-registry alice --docker-server=registry.atcr.local \
    --docker-username=alice.test --docker-password="$APP_PASSWORD"'
run "kubectl -n atcr run hello --image=registry.atcr.local/alice.test/hello:v1 --restart=Never \\
    --overrides='{\"spec\": {\"imagePullSecrets\": [{\"name\": \"alice\"}]}}'"
run 'kubectl -n atcr wait pod/hello --for=condition=Ready --timeout=90s'
run 'kubectl -n atcr logs hello'
run 'kubectl -n atcr get events --field-selector involvedObject.name=registry,involvedObject.kind=AppView -o custom-columns=REASON:.reason,MESSAGE:.message'

cat <<'PAGE'

## 7. And away again

The registry goes, its data and keys stay until the namespace does ([what is kept](../../api/v1alpha1/appview.md#life)).
PAGE
run 'kubectl -n atcr delete appview registry'
run 'kubectl -n atcr get pvc,secrets -l operator.atcr.io/retained=true'
run 'helm uninstall hold --namespace atcr'
run 'helm uninstall atcr-operator --namespace atcr-system'
