// SPDX-License-Identifier: Apache-2.0
// lg: single-threaded epoll HTTP/1.1 load generator, plaintext or mTLS (OpenSSL). Closed loop. Prints one JSON line.
// lg -p port [-H host] -c conns -t seconds [-n maxreq] [-s ca.pem -C cert.pem -K key.pem -S sni] [-N new connection per request] [-R resume] [-u path] [-W warmup_s] [-I idle hold: open conns, 1 request each, hold t seconds]
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/resource.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <openssl/err.h>
#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
enum {CONNECTING, HANDSHAKE, WRITING, READING, DEAD};
typedef struct { int fd; SSL *ssl; int st; size_t woff; char rb[16384]; size_t rlen; long need; double t0, tc; int ev; int served; } conn;
static SSL_CTX *ctx; static SSL_SESSION *sess; static int ep, newconn, resume, idle; static char req[2048]; static size_t reqlen;
static struct sockaddr_in sa; static const char *sni="localhost"; static int srcrr;
static double *lat, *hs; static size_t nlat, nhs, cap=0; static long errs, conns_made, resumed, non200; static int measuring; static char cipher[64], proto[32]; static long inflight_done, maxreq=-1, total_done;
static double now(void){struct timespec t; clock_gettime(CLOCK_MONOTONIC,&t); return t.tv_sec+t.tv_nsec*1e-9;}
static int newsess(SSL *s, SSL_SESSION *x){ (void)s; if(sess) SSL_SESSION_free(sess); sess=x; return 1; }
static void setev(conn *c,int ev){ if(c->ev==ev) return; struct epoll_event e={.events=ev,.data.ptr=c}; epoll_ctl(ep,c->ev?EPOLL_CTL_MOD:EPOLL_CTL_ADD,c->fd,&e); c->ev=ev; }
static void start(conn *c){
  c->fd=socket(AF_INET,SOCK_STREAM|SOCK_NONBLOCK,0); int one=1; setsockopt(c->fd,IPPROTO_TCP,TCP_NODELAY,&one,sizeof one);
  if(newconn||idle){ setsockopt(c->fd,IPPROTO_IP,IP_BIND_ADDRESS_NO_PORT,&one,sizeof one); struct sockaddr_in b={.sin_family=AF_INET}; b.sin_addr.s_addr=htonl(0x7f000001u+(srcrr++%8)); bind(c->fd,(void*)&b,sizeof b);}  
  c->ev=0; c->rlen=0; c->need=-1; c->woff=0; c->ssl=0; c->tc=c->t0=now(); conns_made++;
  int r=connect(c->fd,(void*)&sa,sizeof sa); if(r<0&&errno!=EINPROGRESS){perror("connect");exit(2);} 
  c->st=CONNECTING; setev(c,EPOLLOUT);
}
static void stop(conn *c){ if(c->ssl){ SSL_shutdown(c->ssl); SSL_free(c->ssl); c->ssl=0; } close(c->fd); c->fd=-1; c->ev=0; c->st=DEAD; }
static void fail(conn *c){ if(measuring) errs++; if(c->ssl){SSL_free(c->ssl);c->ssl=0;} close(c->fd); c->ev=0; static long tot; if(++tot>2000){fprintf(stderr,"too many errors\n"); ERR_print_errors_fp(stderr); exit(3);} ERR_clear_error(); start(c); }
static void rec(double v, double h){ if(!measuring) return; if(nlat==cap){cap=cap?cap*2:1<<20; lat=realloc(lat,cap*8); hs=realloc(hs,cap*8);} lat[nlat]=v; hs[nlat++]=h; }
static int io_want(conn *c,int r){ int e=SSL_get_error(c->ssl,r); if(e==SSL_ERROR_WANT_READ){setev(c,EPOLLIN);return 0;} if(e==SSL_ERROR_WANT_WRITE){setev(c,EPOLLOUT);return 0;} return -1; }
static void step(conn *c){
 again:
  switch(c->st){
  case CONNECTING:{ int e=0; socklen_t l=sizeof e; getsockopt(c->fd,SOL_SOCKET,SO_ERROR,&e,&l); if(e){fail(c);return;}
    if(ctx){ c->ssl=SSL_new(ctx); SSL_set_fd(c->ssl,c->fd); SSL_set_tlsext_host_name(c->ssl,sni); SSL_set_connect_state(c->ssl); if(resume&&sess) SSL_set_session(c->ssl,sess); c->st=HANDSHAKE; }
    else {c->st=WRITING;} goto again; }
  case HANDSHAKE:{ int r=SSL_do_handshake(c->ssl); if(r==1){ if(!cipher[0]){snprintf(cipher,64,"%s",SSL_get_cipher_name(c->ssl));snprintf(proto,32,"%s",SSL_get_version(c->ssl));} if(SSL_session_reused(c->ssl)) resumed++; c->st=WRITING; if(!newconn) c->t0=now(); else c->tc=now(); goto again;} if(io_want(c,r)<0) fail(c); return; }
  case WRITING:{ while(c->woff<reqlen){ int r; if(c->ssl){ r=SSL_write(c->ssl,req+c->woff,reqlen-c->woff); if(r<=0){ if(io_want(c,r)<0) fail(c); return; } } else { r=write(c->fd,req+c->woff,reqlen-c->woff); if(r<0){ if(errno==EAGAIN){setev(c,EPOLLOUT);return;} fail(c); return; } } c->woff+=r; }
    c->st=READING; c->rlen=0; c->need=-1; setev(c,EPOLLIN); if(!c->ssl) return; /* TLS: may have buffered tickets */ goto again; }
  case READING:{ for(;;){ int r; if(c->ssl){ r=SSL_read(c->ssl,c->rb+c->rlen,sizeof c->rb-1-c->rlen); if(r<=0){ if(io_want(c,r)<0) fail(c); return; } } else { r=read(c->fd,c->rb+c->rlen,sizeof c->rb-1-c->rlen); if(r<0&&errno==EAGAIN){setev(c,EPOLLIN);return;} if(r<=0){fail(c);return;} }
      c->rlen+=r; c->rb[c->rlen]=0;
      if(c->need<0){ char *h=strstr(c->rb,"\r\n\r\n"); if(!h) continue; char *cl=strcasestr(c->rb,"content-length:"); if(!cl){fprintf(stderr,"no content-length: %s\n",c->rb);exit(4);} c->need=(h+4-c->rb)+atol(cl+15); if(strncmp(c->rb+9,"200",3)) { if(measuring) non200++; } }
      if((long)c->rlen>=c->need){ double n=now(); rec(n-c->t0, c->tc-c->t0); total_done++; c->served++; if(idle){ c->st=DEAD; return; }
        if(newconn){ stop(c); start(c); return; }
        c->woff=0; c->t0=now(); c->st=WRITING; goto again; } } }
  default: return; }
}
static int cmp(const void*a,const void*b){double x=*(double*)a,y=*(double*)b; return x<y?-1:x>y;}
int main(int argc,char**argv){ signal(SIGPIPE,SIG_IGN); int o,port=0,nc=1; double secs=3,warm=0.3; const char*host="127.0.0.1",*ca=0,*cert=0,*key=0,*path="/";
  while((o=getopt(argc,argv,"p:H:c:t:n:s:C:K:S:NRu:W:I"))!=-1) switch(o){case 'p':port=atoi(optarg);break;case 'H':host=optarg;break;case 'c':nc=atoi(optarg);break;case 't':secs=atof(optarg);break;case 'n':maxreq=atol(optarg);break;case 's':ca=optarg;break;case 'C':cert=optarg;break;case 'K':key=optarg;break;case 'S':sni=optarg;break;case 'N':newconn=1;break;case 'R':resume=1;break;case 'u':path=optarg;break;case 'W':warm=atof(optarg);break;case 'I':idle=1;break;default:return 1;}
  if(strncmp(host,"127.",4)){fprintf(stderr,"loopback only\n");return 1;} if(secs>60) secs=60;
  if(ca){ ctx=SSL_CTX_new(TLS_client_method()); SSL_CTX_set_min_proto_version(ctx,TLS1_3_VERSION); if(!SSL_CTX_load_verify_locations(ctx,ca,0)||!SSL_CTX_use_certificate_chain_file(ctx,cert)||!SSL_CTX_use_PrivateKey_file(ctx,key,SSL_FILETYPE_PEM)){ERR_print_errors_fp(stderr);return 1;} SSL_CTX_set_verify(ctx,SSL_VERIFY_PEER,0); if(resume){SSL_CTX_set_session_cache_mode(ctx,SSL_SESS_CACHE_CLIENT|SSL_SESS_CACHE_NO_INTERNAL); SSL_CTX_sess_set_new_cb(ctx,newsess);} }
  reqlen=snprintf(req,sizeof req,"GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: lg/1\r\nAccept: */*\r\n\r\n",path);
  sa.sin_family=AF_INET; sa.sin_port=htons(port); inet_pton(AF_INET,host,&sa.sin_addr); ep=epoll_create1(0);
  conn *cs=calloc(nc,sizeof *cs); struct epoll_event ev[256];
  if(idle){ measuring=1; double t=now(); for(int i=0;i<nc;i++){ start(&cs[i]); while(cs[i].st!=DEAD){int n=epoll_wait(ep,ev,256,100); for(int k=0;k<n;k++) step(ev[k].data.ptr);} epoll_ctl(ep,EPOLL_CTL_DEL,cs[i].fd,0);} printf("READY %d %.3f\n",nc,now()-t); fflush(stdout); usleep(secs*1e6); return 0; }
  for(int i=0;i<nc;i++) start(&cs[i]);
  double ts=now(), te=ts+warm+secs, tm=0; struct rusage r0,r1; 
  for(;;){ double t=now(); if(!measuring&&t-ts>=warm){measuring=1;tm=t;getrusage(RUSAGE_SELF,&r0);resumed=0;conns_made=0; printf("START\n"); fflush(stdout);} if(t>=te||(maxreq>0&&(long)nlat>=maxreq)) break; int n=epoll_wait(ep,ev,256,50); for(int i=0;i<n;i++) step(ev[i].data.ptr); }
  double el=now()-tm; getrusage(RUSAGE_SELF,&r1); double cpu=(r1.ru_utime.tv_sec-r0.ru_utime.tv_sec)+(r1.ru_stime.tv_sec-r0.ru_stime.tv_sec)+1e-6*((r1.ru_utime.tv_usec-r0.ru_utime.tv_usec)+(r1.ru_stime.tv_usec-r0.ru_stime.tv_usec));
  if(!nlat){printf("{\"error\":\"no responses\"}\n");return 5;}
  double hsum=0; for(size_t i=0;i<nlat;i++) hsum+=hs[i]; qsort(lat,nlat,8,cmp); qsort(hs,nlat,8,cmp); double sum=0; for(size_t i=0;i<nlat;i++) sum+=lat[i];
  printf("{\"n\":%zu,\"secs\":%.4f,\"rps\":%.1f,\"mean_us\":%.1f,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,\"hs_p50_us\":%.1f,\"errs\":%ld,\"non200\":%ld,\"conns\":%ld,\"resumed\":%ld,\"lg_cpu\":%.4f,\"cipher\":\"%s\",\"proto\":\"%s\"}\n",nlat,el,nlat/el,sum/nlat*1e6,lat[nlat/2]*1e6,lat[(size_t)(nlat*.9)]*1e6,lat[(size_t)(nlat*.99)]*1e6,lat[(size_t)(nlat*.999)]*1e6,lat[nlat-1]*1e6,hs[nlat/2]*1e6,errs,non200,conns_made,resumed,cpu,cipher,proto);
  fflush(stdout); _exit(0); }
