package render

import (
	"cmp"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
)

// Volumes of a server with PostgreSQL.
const (
	volumeDatabase   = "database"
	volumeDatabaseCA = "database-ca"
)

// DatabaseOf is what a Deployment's pods have for a database; empty: none that the operator gave them.
func DatabaseOf(d *appsv1.Deployment) v1alpha1.DatabaseType {
	for _, v := range d.Spec.Template.Spec.Volumes {
		switch {
		case v.Name == volumeDatabase:
			return v1alpha1.DatabasePostgreSQL
		case v.Name == volumeData && v.PersistentVolumeClaim != nil:
			return v1alpha1.DatabaseSQLite
		case v.Name == volumeData:
			return v1alpha1.DatabaseNone
		}
	}
	return ""
}

// DatabaseEntries are the entries of a Secret that hold the files of a connection, by file.
func DatabaseEntries(k v1alpha1.DatabaseSecretKeys) map[string]string {
	out := map[string]string{}
	for file, entry := range map[string]v1alpha1.SecretKey{
		names.FileDatabaseURI: k.URI, names.FileDatabaseHost: k.Host, names.FileDatabasePort: k.Port,
		names.FileDatabaseName: k.DBName, names.FileDatabaseUser: k.Username, names.FileDatabasePassword: k.Password,
	} {
		out[file] = cmp.Or(string(entry), file)
	}
	return out
}

// CAEntry is the entry with the certificates.
func CAEntry(ref *v1alpha1.CASecretReference) string {
	return cmp.Or(string(ref.Key), names.FileDatabaseCA)
}

// databaseVolumes mount the user's Secrets: what the server needs of them, so that the kubelet brings a changed password
// to the file that the next connection reads.
func databaseVolumes(p *v1alpha1.PostgreSQL, s Settings) []*corev1ac.VolumeApplyConfiguration {
	files := corev1ac.SecretVolumeSource().WithSecretName(string(p.SecretRef.Name)).WithDefaultMode(0o440)
	for _, f := range slices.Sorted(slices.Values(s.DatabaseFiles)) {
		files.WithItems(corev1ac.KeyToPath().WithKey(DatabaseEntries(p.SecretRef.Keys)[f]).WithPath(f))
	}
	out := []*corev1ac.VolumeApplyConfiguration{corev1ac.Volume().WithName(volumeDatabase).WithSecret(files)}
	if ca := p.CASecretRef; ca != nil {
		out = append(out, corev1ac.Volume().WithName(volumeDatabaseCA).WithSecret(corev1ac.SecretVolumeSource().
			WithSecretName(string(ca.Name)).
			WithDefaultMode(0o444).
			WithItems(corev1ac.KeyToPath().WithKey(CAEntry(ca)).WithPath(names.FileDatabaseCA))))
	}
	return out
}

func databaseMounts(p *v1alpha1.PostgreSQL) []*corev1ac.VolumeMountApplyConfiguration {
	out := []*corev1ac.VolumeMountApplyConfiguration{
		corev1ac.VolumeMount().WithName(volumeDatabase).WithMountPath(names.DirDatabase).WithReadOnly(true),
	}
	if p.CASecretRef != nil {
		out = append(out, corev1ac.VolumeMount().WithName(volumeDatabaseCA).WithMountPath(names.DirDatabaseCA).WithReadOnly(true))
	}
	return out
}

// databaseEnvironment names where the files are, and nothing that is in them.
func databaseEnvironment(p *v1alpha1.PostgreSQL, set func(name, value string)) {
	mode := p.SSLMode
	if p.CASecretRef != nil {
		mode = cmp.Or(mode, v1alpha1.SSLVerifyFull)
		set(names.DatabaseCAFile, names.DirDatabaseCA+"/"+names.FileDatabaseCA)
	}
	set(names.DatabaseDir, names.DirDatabase)
	set(names.DatabaseSSLMode, string(mode))
	number := func(name string, n int32) {
		if n > 0 {
			set(name, strconv.Itoa(int(n)))
		}
	}
	number(names.DatabaseMaxOpen, p.Pool.MaxOpen)
	number(names.DatabaseMaxIdle, p.Pool.MaxIdle)
}
