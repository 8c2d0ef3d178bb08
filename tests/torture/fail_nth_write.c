/* Makes the n-th write, sync, cut or rename of a process below a folder fail: FAIL_UNDER, FAIL_AT, FAIL_ENOSPC. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <stdatomic.h>
#include <sys/types.h>
static atomic_long count;
static int under(int fd){ char l[64],p[4096]; const char*h=getenv("FAIL_UNDER"); if(!h) return 0; snprintf(l,64,"/proc/self/fd/%d",fd); int s=errno; ssize_t n=readlink(l,p,4095); errno=s; if(n<=0) return 0; p[n]=0; return !strncmp(p,h,strlen(h)); }
static int fail(void){ const char*n=getenv("FAIL_AT"); long c=atomic_fetch_add(&count,1)+1; if(n&&c==atol(n)){ errno=getenv("FAIL_ENOSPC")?ENOSPC:EIO; return 1;} return 0; }
#define W(ret,name,args,call) ret name args { static ret (*real) args; if(!real) real=dlsym(RTLD_NEXT,#name); if(under(fd)&&fail()) return -1; return real call; }
W(ssize_t,write,(int fd,const void*b,size_t n),(fd,b,n))
W(ssize_t,pwrite,(int fd,const void*b,size_t n,off_t o),(fd,b,n,o))
W(ssize_t,pwrite64,(int fd,const void*b,size_t n,off64_t o),(fd,b,n,o))
W(int,fsync,(int fd),(fd))
W(int,fdatasync,(int fd),(fd))
W(int,ftruncate,(int fd,off_t o),(fd,o))
W(int,ftruncate64,(int fd,off64_t o),(fd,o))
int rename(const char*a,const char*b){ static int(*real)(const char*,const char*); if(!real) real=dlsym(RTLD_NEXT,"rename"); const char*h=getenv("FAIL_UNDER"); if(h&&!strncmp(a,h,strlen(h))&&fail()) return -1; return real(a,b); }
