#include "remote.h"

#include <stddef.h>
#include <sys/vfs.h>

/* Magic numbers, and where each is defined. Cluster file systems on a shared disk (GFS2, OCFS2) are not among them:
 * reading goes to a block device there. An overlay says nothing of what is below it. */
static const uint32_t REMOTE[] = {
    0x6969,     /* NFS: linux/magic.h, NFS_SUPER_MAGIC */
    0x517B,     /* SMB: linux/magic.h, SMB_SUPER_MAGIC */
    0xFF534D42, /* CIFS: linux/magic.h, CIFS_SUPER_MAGIC */
    0xFE534D42, /* SMB2: linux/magic.h, SMB2_SUPER_MAGIC */
    0x65735546, /* FUSE: linux/magic.h, FUSE_SUPER_MAGIC; virtiofs has it too */
    0x01021997, /* 9p: linux/magic.h, V9FS_MAGIC */
    0x00C36400, /* Ceph: linux/magic.h, CEPH_SUPER_MAGIC */
    0x5346414F, /* AFS: linux/magic.h, AFS_SUPER_MAGIC, OpenAFS */
    0x6B414653, /* AFS: linux/magic.h, AFS_FS_MAGIC, the kernel's own */
    0x73757245, /* Coda: linux/magic.h, CODA_SUPER_MAGIC */
    0x564C,     /* NCP: linux/magic.h, NCP_SUPER_MAGIC */
    0x20030528, /* OrangeFS: Linux, fs/orangefs/protocol.h, ORANGEFS_SUPER_MAGIC; PVFS2 before */
    0x786F4256, /* VirtualBox shared folder: Linux, fs/vboxsf/super.c, VBOXSF_SUPER_MAGIC */
    0x0BD00BD0, /* Lustre: lustre_user.h, LL_SUPER_MAGIC */
    0x19830326, /* BeeGFS: client module, FhgfsOpsSuper.h, BEEGFS_MAGIC; FhGFS before */
    0x47504653, /* GPFS: MPICH, ROMIO's adio, GPFS_SUPER_MAGIC */
    0xAAD7AAEA, /* PanFS: MPICH, ROMIO's adio, PAN_KERNEL_FS_CLIENT_SUPER_MAGIC */
    0xBACBACBC, /* VMware shared folder: GNU coreutils, src/stat.c, S_MAGIC_VMHGFS */
    0x7C7C6673, /* Parallels shared folder: GNU coreutils, src/stat.c, S_MAGIC_PRL_FS */
};

bool
nd_is_remote_system(uint32_t magic)
{
    for (size_t i = 0; i < sizeof REMOTE / sizeof *REMOTE; i++) {
        if (magic == REMOTE[i]) {
            return true;
        }
    }
    return false;
}

bool
nd_is_remote(int fd)
{
    struct statfs system;
    /* The kernel's field is signed, and as wide as a long. */
    return fstatfs(fd, &system) == 0 && nd_is_remote_system((uint32_t)system.f_type);
}
