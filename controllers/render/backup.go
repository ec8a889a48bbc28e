package render

import (
	"cmp"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
)

const volumeBackup = "backup"

// Backup is spec.database.sqlite.backup with every default filled in.
type Backup struct {
	Interval  time.Duration
	Retention int32
	ClaimName string // empty: they are on the claim of the database
	OwnClaim  bool   // the operator makes the claim
	ClaimSize resource.Quantity
	Mounted   bool // the claim is there: the server may be given it
}

func backup(av *v1alpha1.AppView, s Settings) *Backup {
	want := av.Spec.Database.SQLite.Backup
	if want == nil || !s.SQLite() {
		return nil
	}
	day, _ := time.ParseDuration(v1alpha1.DefaultBackupInterval)
	out := &Backup{
		Interval:  Duration(want.Interval, day),
		Retention: cmp.Or(want.Retention, v1alpha1.DefaultBackupRetention),
	}
	if want.Destination == v1alpha1.BackupToDatabaseClaim {
		return out
	}
	out.ClaimName = cmp.Or(string(want.Claim.ExistingClaim), BackupClaimName(av.Name))
	out.OwnClaim = want.Claim.ExistingClaim == ""
	out.ClaimSize = resource.MustParse("1Gi")
	if want.Claim.Size != nil {
		out.ClaimSize = *want.Claim.Size
	}
	return out
}

// BackupClaim is the claim of the backups; like [Claim] it has no owner reference.
func BackupClaim(av *v1alpha1.AppView, b *Backup) *corev1ac.PersistentVolumeClaimApplyConfiguration {
	return claim(av, BackupClaimName(av.Name), corev1.ReadWriteOnce, b.ClaimSize, av.Spec.Database.SQLite.Backup.Claim.StorageClassName)
}

// made says whether the server is to make backups.
func (b *Backup) made() bool { return b != nil && (b.ClaimName == "" || b.Mounted) }

// dir is where the server keeps them.
func (b *Backup) dir() string {
	if b.ClaimName == "" {
		return names.DirData + "/backups"
	}
	return names.DirBackup
}

func (b *Backup) environment(set func(name, value string)) {
	set(names.BackupDir, b.dir())
	set(names.BackupInterval, b.Interval.String())
	set(names.BackupKeep, strconv.Itoa(int(b.Retention)))
}

func (b *Backup) volume() *corev1ac.VolumeApplyConfiguration {
	return corev1ac.Volume().WithName(volumeBackup).WithPersistentVolumeClaim(
		corev1ac.PersistentVolumeClaimVolumeSource().WithClaimName(b.ClaimName))
}
