// The process that holds a lab: a thread at the door reads what clients want and answers at once
// what needs no lab, while the lab runs one command after another.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/guarded.h"
#include "vmm/base/result.h"
#include "vmm/lab/keeper_messages.h"
#include "vmm/lab/keeper_socket.h"
#include "vmm/lab/kept_lab.h"

namespace vmm {

class KeeperServer {
 public:
  // Boots a lab; gives up when `cancel` is readable, and the lab for ever when `stop` is.
  using Boot = std::function<Result<std::unique_ptr<Lab>>(int cancel, int stop)>;

  // Opens the door. Errors of kind Lab.
  static Result<std::unique_ptr<KeeperServer>> open(KeeperSocket socket, const Boot& boot);
  // Ends what is left.
  ~KeeperServer();
  KeeperServer(const KeeperServer&) = delete;
  KeeperServer& operator=(const KeeperServer&) = delete;

  // The first boot: the lab's description. Gives up when `cancel` is readable or a client says
  // stop.
  Result<std::string> boot(int cancel);
  // Runs commands in the order in which they came, until a client says stop.
  void serve();
  // Ends the lab, frees its name, and only then answers who waits: stops with success, commands
  // with `why`. Call it from the thread that booted, as the emulator ends with that.
  void end(const Error& why = Error::lab("the lab was stopped"));

 private:
  // A client that has not said what it wants.
  struct Visitor {
    Fd fd;
    std::chrono::steady_clock::time_point since;
  };
  struct Job {
    LabCommand command;
    std::vector<Fd> streams;  // out and err, before them in if there is one
    Fd client;
  };
  // What both threads touch.
  struct Shared {
    std::deque<Job> jobs;
    std::vector<Fd> stops;  // clients that said stop
    std::string state = "starting";
    std::string description;
  };

  KeeperServer(KeeperSocket socket, const Boot& boot, Fd stop, Fd work, Fd leave);

  void attend_door();
  void receive(Fd client);
  void answer(KeeperRequest request, std::vector<Fd> fds, Fd client);
  void enqueue(KeeperRequest request, std::vector<Fd> fds, Fd client);
  void send(const Fd& client, KeeperReply reply);
  void run(Job job);
  void publish(const std::string& state);
  bool stopped() const;

  KeeperSocket socket_;
  Fd stop_;   // eventfd: readable once a client has said stop, for ever
  Fd work_;   // eventfd: one for each job that waits
  Fd leave_;  // eventfd: the door is to close
  KeptLab lab_;
  Guarded<Shared> shared_;
  bool ended_ = false;
  std::thread door_;
};

}  // namespace vmm
